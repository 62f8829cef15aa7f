"""Of each party: earned = paid + claimed + held + carried, whatever happens, and nobody is paid more than is owed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from services.runtime.money import Money
from services.settlement.domain.earnings import Earning, Standing, due_at_once, sums, swept
from services.settlement.domain.policy import Policy, in_force

PARTIES = ("north", "south")
CURRENCIES = ("AUD", "USD", "JPY")
START = datetime(2026, 3, 2, tzinfo=UTC)

Key = tuple[str, str]


@dataclass
class Model:
    """What happened to one party in one currency, as a list: nothing is summed before it is asked."""

    earned: list[tuple[datetime, int]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    claimed: list[int] = field(default_factory=list)
    paid: list[int] = field(default_factory=list)

    @property
    def carried(self) -> int:
        return sum(minor for _, minor in self.earned) - sum(self.claimed) - sum(self.paid)

    def earned_after(self, moment: datetime) -> int:
        return sum(minor for at, minor in self.earned if at > moment)


@dataclass(frozen=True)
class Paid:
    """A payout that may still be paid or come back."""

    key: Key
    minor: int
    is_paid: bool = False


class Conservation(RuleBasedStateMachine):
    """The rules of settlement against the model."""

    payouts = Bundle("payouts")
    lines = Bundle("lines")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.charges = 0
        self.model: dict[Key, Model] = defaultdict(Model)
        self.standings: dict[Key, Standing] = {}
        self.held: dict[tuple[str, str, str], int] = defaultdict(int)
        self.policy = in_force("", None, Policy(thresholds={"USD": 500}, threshold_first="USD"))

    def standing(self, key: Key) -> Standing:
        return self.standings.get(key, Standing(*key, 0, 0, 0))

    def take_in(self, earnings: list[Earning]) -> list[Paid]:
        """As a charge is taken in: balances first, then what is paid at once."""
        for (party, currency, dispute), minor in sums(earnings).items():
            if dispute:
                self.held[party, currency, dispute] += minor
            else:
                before = self.standing((party, currency))
                self.standings[party, currency] = replace(
                    before, earned_minor=before.earned_minor + minor
                )
        for each in earnings:
            model = self.model[each.party, each.amount.currency_code]
            if each.dispute_id:
                model.held.append(each.amount.minor_units)
            else:
                model.earned.append((each.earned_at, each.amount.minor_units))
        made = []
        policies = dict.fromkeys(PARTIES, self.policy)
        for earning, amount in due_at_once(earnings, self.standings, policies):
            key = (earning.party, amount.currency_code)
            threshold = self.policy.thresholds[amount.currency_code]
            assert not earning.dispute_id
            assert earning.amount.minor_units > threshold
            assert 0 < amount.minor_units <= earning.amount.minor_units
            assert amount.minor_units <= self.model[key].carried
            made.append(self.claim(key, amount.minor_units))
        return made

    def claim(self, key: Key, minor: int) -> Paid:
        self.standings[key] = self.standing(key).claimed(minor)
        self.model[key].claimed.append(minor)
        return Paid(key, minor)

    @rule(
        target=lines,
        party=st.sampled_from(PARTIES),
        currency=st.sampled_from(CURRENCIES),
        minors=st.lists(st.integers(-2_000, 10_000).filter(bool), min_size=1, max_size=5),
        dispute=st.sampled_from(("", "", "d-1", "d-2")),
    )
    def charge(self, party: str, currency: str, minors: list[int], dispute: str) -> list[Earning]:
        self.charges += 1
        made = [
            Earning(
                f"chg_{self.charges}",
                place,
                "acme",
                "calls",
                party,
                Money(currency, minor),
                dispute,
                self.now,
            )
            for place, minor in enumerate(minors, start=1)
        ]
        for payout in self.take_in(made):
            self.bundle_later(payout)
        return made

    def bundle_later(self, payout: Paid) -> None:
        self.waiting = [*getattr(self, "waiting", []), payout]

    @rule(target=payouts)
    def known(self) -> object:
        """What was claimed meanwhile may be paid, and may come back."""
        waiting, self.waiting = getattr(self, "waiting", []), []
        return multiple(*waiting)

    @rule(of=consumes(lines), winner=st.sampled_from(("", *PARTIES)))
    def reverse_or_resolve(self, of: list[Earning], winner: str) -> None:
        """Give back what a charge earned, exactly; what was held may go to whom the dispute ends for."""
        back = [replace(each, amount=-each.amount, earned_at=self.now) for each in of]
        if of[0].dispute_id and winner:
            back += [replace(each, party=winner, dispute_id="", earned_at=self.now) for each in of]
        for payout in self.take_in(back):
            self.bundle_later(payout)

    @rule(
        days_before=st.integers(0, 3),
        least=st.integers(0, 3_000),
        currency=st.sampled_from(CURRENCIES),
    )
    def sweep(self, days_before: int, least: int, currency: str) -> None:
        through = self.now - timedelta(days=days_before)
        policy = replace(self.policy, minimums={currency: least})
        for key in sorted(self.standings):
            model, standing = self.model[key], self.standings[key]
            minor = swept(standing, model.earned_after(through), policy)
            owed = min(model.carried, model.carried - model.earned_after(through))
            enough = max(least if key[1] == currency else 1, 1)
            assert minor == (owed if owed >= enough else 0)
            if minor:
                self.bundle_later(self.claim(key, minor))
            # Twice at once pays once.
            if not days_before:
                assert swept(self.standings[key], 0, policy) == 0 or not minor

    @rule(target=payouts, payout=consumes(payouts))
    def pay(self, payout: Paid) -> Paid:
        if payout.is_paid:
            return payout
        model, standing = self.model[payout.key], self.standings[payout.key]
        model.claimed.remove(payout.minor)
        model.paid.append(payout.minor)
        self.standings[payout.key] = replace(
            standing,
            claimed_minor=standing.claimed_minor - payout.minor,
            paid_minor=standing.paid_minor + payout.minor,
        )
        return replace(payout, is_paid=True)

    @rule(payout=consumes(payouts))
    def give_back(self, payout: Paid) -> None:
        model, standing = self.model[payout.key], self.standings[payout.key]
        (model.paid if payout.is_paid else model.claimed).remove(payout.minor)
        self.standings[payout.key] = replace(
            standing,
            claimed_minor=standing.claimed_minor - (0 if payout.is_paid else payout.minor),
            paid_minor=standing.paid_minor - (payout.minor if payout.is_paid else 0),
        )

    @rule(minor=st.integers(0, 12_000), currency=st.sampled_from(CURRENCIES))
    def threshold(self, minor: int, currency: str) -> None:
        common = replace(self.policy, thresholds={**self.policy.thresholds, currency: minor})
        self.policy = in_force("", None, common)

    @rule(hours=st.integers(1, 48))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @invariant()
    def is_conserved(self) -> None:
        for key, model in self.model.items():
            standing = self.standing(key)
            held = sum(
                minor
                for (party, currency, _), minor in self.held.items()
                if (party, currency) == key
            )
            earned = sum(minor for _, minor in model.earned) + sum(model.held)
            assert held == sum(model.held)
            assert standing.claimed_minor == sum(model.claimed) >= 0
            assert standing.paid_minor == sum(model.paid) >= 0
            assert standing.carried_minor == model.carried
            assert standing.earned_minor + held == earned
            assert earned == sum(model.paid) + sum(model.claimed) + held + model.carried


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
