"""How a merchant takes payments: the wallet first, up to 20.00, the rest by card."""

from payments_sdk.payments.config.v1 import MerchantConfig, MethodConfig
from payments_sdk.payments.orchestration import v1 as orchestration
from payments_sdk.payments.type.v1 import Money
from tollmesh_client import Client

config = MerchantConfig(merchant_id="example-shop")
limit = Money(currency_code="USD", minor_units=2000)
config.methods = [
    MethodConfig(method="wallet", max_amount=limit, processor_id="sandbox-wallet"),
    MethodConfig(method="card", processor_id="sandbox-card"),
]

with Client() as client:
    put = client.merchant_config.put_merchant_config(
        orchestration.PutMerchantConfigRequest(config=config)
    )
    print("version", put.version)
    asked = orchestration.GetMerchantConfigRequest(merchant_id="example-shop")
    stored = client.merchant_config.get_merchant_config(asked).config
    print([method.method for method in stored.methods])
