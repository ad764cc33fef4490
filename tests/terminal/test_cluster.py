"""The check of a cluster as a table: nodes that are alike share a row."""

from sersearch.search.nodes import Finding, Node, Sight
from sersearch.terminal.cluster import check_sheet


def find(number: int, processor: str = "X", fault: str = "", answers: bool = True) -> Finding:
    sight = Sight(f"host{number}", "0.2.0", "", "2.11.0", f"cpu ({processor})", None, ())
    return Finding(Node(f"id{number}", f"10.0.0.{number}", 4, 0), sight if answers else None, fault)


def test_nodes_that_are_alike_share_a_row() -> None:
    sheet = check_sheet([find(9, fault="no store"), *(find(number) for number in range(1, 8))])
    assert sheet.rows == (
        ("10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, and 3 more", "0.2.0", "2.11.0", "X", "–", "good"),
        ("10.0.0.9", "0.2.0", "2.11.0", "X", "–", "no store"),
    )
    assert sheet.notes == ("Left out until they pass a check: 1 of 8 nodes.",)


def test_gpus_are_told_with_type_and_memory() -> None:
    def with_gpus(number: int, gpus: int, gpu: str, memory: int, gpu_fault: str = "") -> Finding:
        sight = Sight(f"host{number}", "0.2.0", "", "2.11.0", "cpu (X)", gpus, (), gpu, memory)
        return Finding(Node(f"id{number}", f"10.0.0.{number}", 4, gpus), sight, "", gpu_fault)

    sheet = check_sheet(
        [
            with_gpus(1, 8, "NVIDIA A100-SXM4-80GB", 85 * 10**9),
            with_gpus(2, 2, "NVIDIA GeForce RTX 4090", 25 * 10**9),
            with_gpus(3, 0, "", 0, "torch finds no CUDA device there"),
        ]
    )
    assert [row[-2:] for row in sheet.rows] == [
        ("8 x NVIDIA A100-SXM4-80GB, 85 GB", "good"),
        ("2 x NVIDIA GeForce RTX 4090, 25 GB", "good"),
        ("0", "good without GPUs: torch finds no CUDA device there"),
    ]
    assert sheet.notes == ("Used without their GPUs until these pass a check: 1 of 3 nodes.",)


def test_nodes_that_differ_are_told_and_those_that_do_not_answer_are_no_kind() -> None:
    sheet = check_sheet([find(1), find(2, "Y"), find(3, answers=False, fault="it does not answer in time")])
    assert [row[-1] for row in sheet.rows] == ["good", "good", "it does not answer in time"]
    assert sheet.rows[2][1:5] == ("–",) * 4
    assert "the same bits on nodes of one kind only" in sheet.notes[1]
    assert check_sheet([find(1), find(2)]).notes == ()
