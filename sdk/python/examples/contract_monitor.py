"""A contract of one's own, a violation of it, and who broke what in the last hour."""

from datetime import datetime, timedelta, timezone
from uuid import uuid4

from payments_sdk.payments.contracts import v1 as contracts
from payments_sdk.payments.type.v1 import Period
from tollmesh_client import Client

contract = contracts.Contract(
    contract_id="depot/stock-in-time",
    title="Stock is told in time",
    description="A movement of stock is published within a minute.",
    owner="depot",
    severity="MEDIUM",
    version=1,
    kind=contracts.ContractKind.OBJECTIVE,
)
now = datetime.now(timezone.utc)
violation = contracts.ContractViolation(
    contract_id=contract.contract_id, message="told after 95 s", occurred_at=now
)
# Of the call or the document in which the contract was broken.
violation.request_id = f"move-{uuid4()}"

with Client() as client:
    answer = client.contract_monitor.register_contracts(
        contracts.RegisterContractsRequest(contracts=[contract])
    )
    print([result.outcome.name for result in answer.results])
    told = client.contract_monitor.record_violations(
        contracts.RecordViolationsRequest(violations=[violation])
    )
    print(told.accepted, "recorded", [problem.message for problem in told.problems])
    asked = contracts.ListViolationsRequest(contract_id=contract.contract_id)
    asked.period = Period(start_at=now - timedelta(hours=1), end_at=now + timedelta(hours=1))
    for found in client.contract_monitor.all_violations(asked):
        print(found.severity, found.message)
