"""Payments as messages."""

from __future__ import annotations

from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.plan.v1 import plan_pb2
from payments.result.v1 import result_pb2
from payments.type.v1 import type_pb2

from services.orchestration.domain.findings import Verdict
from services.orchestration.domain.instructions import Resolve
from services.orchestration.domain.issues import Severity
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    Attempt,
    AttemptStatus,
    Instruction,
    InstructionStatus,
    PaymentStatus,
    Progress,
    done_minor,
    last_failure,
    status_of_instruction,
)
from services.orchestration.domain.plan import Decision, Plan
from services.orchestration.domain.record import Payment, Planned
from services.orchestration.domain.request import Context
from services.orchestration.domain.retries import RetryRule
from services.orchestration.messages.configs import CAPTURES
from services.runtime.edge import values as edge

_STATUSES = edge.Names(PaymentStatus, pb.PaymentStatus, "PAYMENT_STATUS_")
_OPERATIONS = edge.Names(Operation, pb.Operation, "OPERATION_")
_ATTEMPT_STATUSES = edge.Names(AttemptStatus, pb.AttemptStatus, "ATTEMPT_STATUS_")
_VERDICTS = edge.Names(Verdict, pb.Verdict, "VERDICT_")
_INSTRUCTION_STATUSES = edge.Names(InstructionStatus, pb.InstructionStatus, "INSTRUCTION_STATUS_")
_RETRY_RULES = edge.Names(RetryRule, pb.RetryRule, "RETRY_RULE_")
_SEVERITIES = edge.Names(Severity, pb.IssueSeverity, "ISSUE_SEVERITY_")
_GIVEN_UP = frozenset(
    {
        PaymentStatus.FAILED,
        PaymentStatus.PARTIALLY_PAID,
        PaymentStatus.COMPENSATING,
        PaymentStatus.COMPENSATION_STUCK,
    }
)


def status_of(status: pb.PaymentStatus.ValueType) -> str:
    """Read a status to look for; an empty text lets every one pass."""
    found = _STATUSES.read(status)
    return "" if found is None else found.value


def planned(planned: Planned) -> service_pb.PlanPaymentResponse:
    """Write what would be done with a request."""
    return service_pb.PlanPaymentResponse(
        context=context_message(planned.context, planned.request_key),
        plan=None if planned.plan is None else plan_message(planned.plan),
        decisions=map(decision_message, planned.decisions),
        config_version=planned.config.version if planned.config else 0,
    )


def payment_message(payment: Payment) -> pb.Payment:
    """Write a payment."""
    message = pb.Payment(
        payment_id=payment.payment_id,
        merchant_id=payment.merchant_id,
        order_id=payment.order_id,
        person_id=payment.person_id,
        org_id=payment.org_id,
        context=context_message(payment.context, payment.request_key),
        status=_STATUSES.write(payment.status),
        config_version=payment.config_version,
        created_at=edge.stamp(payment.created_at),
        updated_at=edge.stamp(payment.updated_at),
    )
    if payment.plan is not None and payment.progress is not None:
        message.plan.CopyFrom(plan_message(payment.plan))
        message.result.CopyFrom(_result(payment, payment.progress))
        message.capture = CAPTURES.write(payment.plan.capture)
        message.amounts.CopyFrom(_amounts(payment, payment.progress))
        message.instructions.extend(
            instruction_message(payment, each) for each in payment.progress.instructions
        )
        message.attempts.extend(attempt_message(payment, a) for a in payment.progress.attempts)
    return message


def instruction_message(payment: Payment, instruction: Instruction) -> pb.Instruction:
    """Write what was asked of a payment, and what came of it."""
    progress = payment.work
    return pb.Instruction(
        instruction_id=instruction.instruction_id,
        operation=_OPERATIONS.write(instruction.operation),
        amount=_money(payment.currency, instruction.amount_minor),
        amount_done=_money(payment.currency, done_minor(progress, instruction)),
        status=_INSTRUCTION_STATUSES.write(status_of_instruction(progress, instruction)),
        reason=instruction.reason,
        created_at=edge.stamp(instruction.created_at),
        created_by=instruction.created_by,
    )


def context_message(context: Context, key: str) -> pb.CoreRequestContext:
    """Write what was understood of a request."""
    message = pb.CoreRequestContext(
        merchant_id=context.merchant_id,
        amount_cents=context.amount_minor,
        currency=context.currency,
        payment_method=context.preferences[0].method if context.preferences else "",
        idempotency_key=key,
        order_id=context.order_id,
        person_id=context.person_id,
        org_id=context.org_id,
        metadata=dict(context.metadata),
        country=context.country,
        bin=context.bin,
    )
    if context.capture is not None:
        message.capture = CAPTURES.write(context.capture)
    for issue in context.issues:
        message.validation_errors.add(
            field=issue.field,
            code=issue.code,
            message=issue.message,
            severity=_SEVERITIES.write(issue.severity),
        )
    for preference in context.preferences:
        entry = message.payment_methods.add(
            method=preference.method, has_token=bool(preference.token), bin=preference.bin
        )
        if preference.max_minor is not None:
            entry.max_amount.CopyFrom(_money(context.currency, preference.max_minor))
    return message


def plan_message(plan: Plan) -> plan_pb2.PaymentPlan:
    """Write a plan; tokens stay inside."""
    message = plan_pb2.PaymentPlan(
        plan_id=plan.plan_id,
        total_amount=_money(plan.currency, plan.total_minor),
        plan_hash=plan.plan_hash,
    )
    for step in plan.steps:
        message.steps.add(
            method=step.method,
            max_amount=_money(plan.currency, step.amount_minor),
            processor_id=step.processors[0],
            fallback_processor_ids=step.processors[1:],
            authorize_first=step.holds,
        )
    return message


def decision_message(decision: Decision) -> pb.Decision:
    """Write a decision."""
    return pb.Decision(
        method=decision.method,
        chosen=decision.chosen,
        reason=decision.reason,
        message=decision.message,
        processor_ids=decision.processors,
        candidates=[
            pb.Candidate(
                processor_id=each.processor_id,
                chosen=each.chosen,
                reason=each.reason,
                message=each.message,
            )
            for each in decision.candidates
        ],
        rule=decision.rule,
    )


def _result(payment: Payment, progress: Progress) -> result_pb2.CompositeResult:
    processed = progress.processed_minor
    message = result_pb2.CompositeResult(
        success=payment.status is PaymentStatus.SUCCEEDED,
        total_processed=_money(payment.currency, processed),
        remaining_amount=_money(payment.currency, payment.total_minor - processed),
    )
    for index in range(len(progress.steps)):
        taking = progress.taking(index)
        taken = [each for each in progress.taken() if each.step_index == index]
        ended = taken or (taking and payment.status in _GIVEN_UP)
        if ended:
            kept_minor = sum(map(progress.kept_of, taken))
            last = taken[-1] if taken else taking[-1]
            message.step_results.append(_step_result(payment.currency, last, kept_minor))
    failure = last_failure(progress)
    if payment.status in _GIVEN_UP and failure is not None:
        message.final_error = _error_code(failure.error_code)
    return message


def _amounts(payment: Payment, progress: Progress) -> pb.PaymentAmounts:
    return pb.PaymentAmounts(
        authorized=_money(payment.currency, progress.held_minor),
        captured=_money(payment.currency, progress.captured_minor),
        refunded=_money(payment.currency, progress.refunded_minor),
        refundable=_money(payment.currency, progress.refundable_minor),
    )


def _step_result(currency: str, attempt: Attempt, kept_minor: int) -> result_pb2.Result:
    return result_pb2.Result(
        success=kept_minor > 0,
        processor_id=attempt.processor_id,
        error_code=_error_code(attempt.error_code),
        amount_processed=_money(currency, kept_minor),
        latency_ms=attempt.latency_ms,
        retryable=attempt.retryable,
    )


def resolve_of(request: service_pb.ResolveAttemptRequest) -> Resolve:
    """Read an operator's verdict."""
    verdict = _VERDICTS.read(request.verdict)
    assert verdict is not None, "the edge lets none pass without"
    return Resolve(request.attempt_id, verdict, request.evidence)


def attempt_message(payment: Payment, attempt: Attempt) -> pb.Attempt:
    """Write an attempt."""
    message = pb.Attempt(
        attempt_id=attempt.attempt_id,
        step_index=attempt.step_index,
        attempt_number=attempt.number,
        operation=_OPERATIONS.write(attempt.operation),
        parent_attempt_id=attempt.parent_id,
        processor_id=attempt.processor_id,
        payment_method=payment.work.steps[attempt.step_index].method,
        amount=_money(payment.currency, attempt.amount_minor),
        status=_ATTEMPT_STATUSES.write(attempt.status),
        error_code=_error_code(attempt.error_code),
        failure_code=attempt.failure_code,
        retryable=attempt.retryable,
        provider_ref=attempt.provider_ref,
        message=attempt.message,
        latency_ms=attempt.latency_ms,
        created_at=edge.stamp(attempt.created_at),
        instruction_id=attempt.instruction_id,
        resolved_by=attempt.resolved_by,
        evidence=attempt.evidence,
        never_again=attempt.never_again,
    )
    if attempt.withheld_by:
        message.withheld_by = _RETRY_RULES.write(RetryRule(attempt.withheld_by))
    if attempt.sent_at is not None:
        message.sent_at.FromDatetime(attempt.sent_at)
    if attempt.settled_at is not None:
        message.settled_at.FromDatetime(attempt.settled_at)
    return message


def _error_code(word: str) -> result_pb2.ErrorCode.ValueType:
    if not word:
        return result_pb2.ERROR_CODE_UNSPECIFIED
    return result_pb2.ErrorCode.Value(f"ERROR_CODE_{word.upper()}")


def _money(currency: str, minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code=currency, minor_units=minor_units)
