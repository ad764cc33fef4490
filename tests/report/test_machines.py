"""Which machine trained what."""

from sersearch.report.machines import machines
from sersearch.run.ledger import Result
from sersearch.study.configuration import NetworkConfiguration
from tests.trials import make_trial


def result(host: str, device: str, hours: float) -> Result:
    return Result(
        trial=make_trial(NetworkConfiguration(model="LDNN")),
        stopped="epochs",
        seconds=3600 * hours,
        parameters=1,
        confusion={"noisy": {"s3": [[1, 0], [0, 1]]}},
        environment={"device": device, "torch": "2.11"},
        host=host,
    )


def test_trials_are_counted_by_machine_and_device() -> None:
    found = machines(
        [result("b", "cpu (X)", 0.5), result("a", "cpu (Y)", 1), result("b", "cpu (X)", 1), result("", "cuda (Z)", 2)]
    )
    assert found.rows == (
        ("a", "cpu (Y)", "2.11", "1", "1.00"),
        ("b", "cpu (X)", "2.11", "2", "1.50"),
        ("–", "cuda (Z)", "2.11", "1", "2.00"),
    )


def test_one_machine_gives_no_table() -> None:
    assert machines([result("a", "cpu (X)", 1), result("a", "cpu (X)", 2)]).rows == ()
    assert machines([]).rows == ()
