"""Payments and configurations as messages, and configurations back."""

from __future__ import annotations

from datetime import timedelta

from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.plan.v1 import plan_pb2
from payments.result.v1 import result_pb2
from payments.type.v1 import type_pb2

from services.orchestration.domain.config import (
    ATTEMPTS_PER_PROCESSOR_DEFAULT,
    CALL_TIMEOUT_MS_DEFAULT,
    Capture,
    MerchantConfig,
    MethodRule,
    StoredConfig,
)
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
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.record import Payment, Planned
from services.orchestration.domain.request import Context
from services.runtime.edge import values as edge

_STATUSES = edge.Names(PaymentStatus, pb.PaymentStatus, "PAYMENT_STATUS_")
_OPERATIONS = edge.Names(Operation, pb.Operation, "OPERATION_")
_ATTEMPT_STATUSES = edge.Names(AttemptStatus, pb.AttemptStatus, "ATTEMPT_STATUS_")
_CAPTURES = edge.Names(Capture, config_pb2.Capture, "CAPTURE_")
_INSTRUCTION_STATUSES = edge.Names(InstructionStatus, pb.InstructionStatus, "INSTRUCTION_STATUS_")
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


def config_put(version: int) -> service_pb.PutMerchantConfigResponse:
    """Write which version of a configuration holds."""
    return service_pb.PutMerchantConfigResponse(version=version)


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
        message.capture = _CAPTURES.write(payment.plan.capture)
        message.amounts.CopyFrom(_amounts(payment, payment.progress))
        message.instructions.extend(
            instruction_message(payment, each) for each in payment.progress.instructions
        )
        message.attempts.extend(_attempt(payment, a) for a in payment.progress.attempts)
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
    )
    if context.capture is not None:
        message.capture = _CAPTURES.write(context.capture)
    for issue in context.issues:
        message.validation_errors.add(
            field=issue.field,
            code=issue.code,
            message=issue.message,
            severity=_SEVERITIES.write(issue.severity),
        )
    for preference in context.preferences:
        entry = message.payment_methods.add(
            method=preference.method, has_token=bool(preference.token)
        )
        if preference.max_minor is not None:
            entry.max_amount.CopyFrom(_money(context.currency, preference.max_minor))
    return message


def plan_message(plan: Plan) -> plan_pb2.PaymentPlan:
    """Write a plan; tokens stay inside."""
    message = plan_pb2.PaymentPlan(
        plan_id=plan.plan_id, total_amount=_money(plan.currency, plan.total_minor)
    )
    for step in plan.steps:
        message.steps.add(
            method=step.method,
            max_amount=_money(plan.currency, step.amount_minor),
            processor_id=step.processors[0],
            fallback_processor_ids=step.processors[1:],
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
    )


def config_message(stored: StoredConfig) -> config_pb2.MerchantConfig:
    """Write a version of a configuration."""
    config = stored.config
    message = config_pb2.MerchantConfig(
        merchant_id=config.merchant_id,
        version=config.version,
        partial_allowed=config.partial_allowed,
        created_at=edge.stamp(stored.created_at),
        created_by=stored.created_by,
    )
    if config.capture is not Capture.AUTOMATIC:
        message.capture = _CAPTURES.write(config.capture)
    message.retry_policy.attempts_per_processor_max = config.attempts_per_processor_max
    timeout = timedelta(milliseconds=config.call_timeout_ms)
    message.timeouts.call_timeout.FromTimedelta(timeout)
    message.processors.extend(
        config_pb2.ProcessorConfig(
            processor_id=each.processor_id,
            adapter=each.adapter,
            base_url=each.base_url,
            credential_ref=each.credential_ref,
            settings=dict(each.settings),
        )
        for each in config.processors
    )
    for rule in config.methods:
        method = message.methods.add(
            method=rule.method,
            processor_id=rule.processors[0],
            fallback_processor_ids=rule.processors[1:],
        )
        if rule.cap is not None:
            method.max_amount.CopyFrom(_money(rule.cap.currency_code, rule.cap.minor_units))
    return message


def config_of(message: config_pb2.MerchantConfig) -> MerchantConfig:
    """Read a configuration; what it leaves open gets its documented default."""
    timeout_ms = CALL_TIMEOUT_MS_DEFAULT
    if message.timeouts.HasField("call_timeout"):
        timeout_ms = message.timeouts.call_timeout.ToMilliseconds()
    attempts_max = message.retry_policy.attempts_per_processor_max
    return MerchantConfig(
        merchant_id=message.merchant_id,
        version=0,
        methods=tuple(_rule(method) for method in message.methods),
        attempts_per_processor_max=attempts_max or ATTEMPTS_PER_PROCESSOR_DEFAULT,
        call_timeout_ms=timeout_ms,
        partial_allowed=message.partial_allowed,
        capture=_CAPTURES.read(message.capture) or Capture.AUTOMATIC,
        processors=tuple(
            ProcessorConfig(
                each.processor_id,
                each.adapter,
                each.base_url,
                each.credential_ref,
                tuple(sorted(each.settings.items())),
            )
            for each in message.processors
        ),
    )


def _rule(message: config_pb2.MethodConfig) -> MethodRule:
    cap = None
    if message.HasField("max_amount"):
        cap = edge.money_of(message.max_amount)
    return MethodRule(message.method, cap, (message.processor_id, *message.fallback_processor_ids))


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


def _attempt(payment: Payment, attempt: Attempt) -> pb.Attempt:
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
    )
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
