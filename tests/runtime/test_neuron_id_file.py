from __future__ import annotations

from pathlib import Path

import pytest

from neuron_anyio import neuron_id_file


def test_an_id_is_made_the_first_time_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "id"
    made = neuron_id_file(path)
    assert made.startswith("neuron-")
    assert neuron_id_file(path) == made
    assert neuron_id_file(tmp_path / "other") != made


def test_an_id_of_the_users_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_text("worker-7\n", encoding="utf-8")
    assert neuron_id_file(path) == "worker-7"


@pytest.mark.parametrize("text", ["", "\n", "one\ntwo\n"])
def test_a_file_without_one_id_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "id"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="one line with the neuron's id; delete it"):
        neuron_id_file(path)
