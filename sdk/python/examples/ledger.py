"""Accounts, a transfer between them, and the books as a whole."""

from uuid import uuid4

from payments_sdk.payments.ledger import v1 as ledger
from payments_sdk.payments.type.v1 import Money
from tollmesh_client import Client

bank = ledger.Account(
    account_id="bank:example:EUR", currency_code="EUR", type=ledger.AccountType.ASSET
)
equity = ledger.Account(
    account_id="capital:example:EUR", currency_code="EUR", type=ledger.AccountType.EQUITY
)
# The id is the transfer's for ever: sent again, with it, it is posted once.
transfer = ledger.Transfer(
    transfer_id=str(uuid4()),
    debit_account_id=bank.account_id,
    credit_account_id=equity.account_id,
    amount=Money(currency_code="EUR", minor_units=100_000),
)

with Client() as client:
    client.ledger.create_accounts(ledger.CreateAccountsRequest(accounts=[bank, equity]))
    for _ in range(2):
        request = ledger.PostTransfersRequest(transfers=[transfer])
        (result,) = client.ledger.post_transfers(request).results
        print(result.result.name)
    entries = client.ledger.all_entries(ledger.ListEntriesRequest(account_id=bank.account_id))
    print([entry.balance_after.minor_units for entry in entries])
    balance = client.ledger.get_trial_balance(ledger.GetTrialBalanceRequest()).trial_balance
    for currency in balance.currencies:
        print(currency.currency_code, "difference", currency.difference.minor_units)
