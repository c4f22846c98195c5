"""The comparative study's figures: what is drawn is what the records say, and the same bytes each time."""

import itertools
import random

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest

from cardioembed_study import show
from cardioembed_study.claims import verdicts
from cardioembed_study.forgetting import figures as forgetting_figures
from cardioembed_study.report import front_page
from cardioembed_study.report import speed as report_speed
from cardioembed_study.retrieval import figures as retrieval_figures
from cardioembed_study.training import figures as training_figures

BASE = "all-MiniLM-L6-v2"
EDGES = np.linspace(-1, 1, 41)


def similarity(separation=0.5):
    histogram = {kind: [0] * 40 for kind in ("similar", "different", "negated")}
    histogram["similar"][35], histogram["similar"][36] = 3, 1
    histogram["different"][24], histogram["negated"][36] = 4, 4
    means = {"similar": 0.8, "different": 0.8 - separation, "negated": 0.82, "negated_gap": -0.02}
    interval = {"separation": separation, "separation_low": separation - 0.1, "separation_high": separation + 0.05}
    probe = {name: {"accuracy": 0.6, "low": 0.4, "high": 0.75} for name in ("all", "negation", "laterality")}
    metrics = {"separation": means | interval, "choice": probe, "cosines": histogram | {"edges": EDGES.tolist()}}
    return {"params": {"base": BASE}, "counts": {"negation": 1200}, "metrics": metrics}


def arm(latency, speed, *, adapter=None, random_weights=False, parameters=22_700_000):
    speeds = {"latency_ms": latency, "latency_p95_ms": 1.5 * latency, "texts_per_s": speed}
    sizes = {"parameters": parameters, "peak_gb": parameters * 5e-9, "weights_gb": parameters * 4e-9}
    return speeds | sizes | {"adapter": adapter, "random_weights": random_weights}


SIMILARITY = {BASE: similarity(), "seed17": similarity(0.6), "bm25": similarity(-0.2)}
ENCODE = {
    "device": "a processor",
    "counts": {"threads": 2},
    "params": {"batch_size": 32, "contended": True},
    "metrics": {
        "BERT, float32": arm(100.0, 10.0, random_weights=True, parameters=109_000_000),
        "base, float32": arm(15.0, 80.0),
        "base + seed17, float32": arm(16.0, 79.0, adapter="seed17"),
    },
}
PEERS = {
    "device": "a processor",
    "counts": {"threads": 2, "pairs": 256},
    "metrics": {
        "float32, ours": {"median": 40.0, "all": [39.0, 40.0, 42.0], "ours_over_it": [1.0, 1.0, 1.0]},
        "float32, limit": {"median": 64.0, "all": [60.0, 64.0, 66.0], "ours_over_it": [0.625, 0.6, 0.65]},
        "float32, peer": {"median": 10.0, "all": [9.0, 10.0, 11.0], "ours_over_it": [4.0, 3.9, 4.2]},
        "bfloat16, ours": {"median": 60.0, "all": [60.0], "ours_over_it": [1.0, 1.0, 1.0]},
    },
}
GROWTH = {
    "metrics": {
        name: {"unit": "texts", "slope": 1.5, "points": [{"n": 10**k, "seconds": 2.0**k, "gb": 0.1} for k in range(3)]}
        for name in ("reading", "mining")
    }
}
PUBLISHED = pl.DataFrame({"model": ["bge", "gemma"], "parameters": [335.0, 2600.0], "memory_gb": [1.55, 12.02]})
STUDY = [  # the published tables: name, ms on the study's GPU, separation
    *(("mpnet", 15.64, 0.386), ("jina", 15.96, -0.175), ("bge_small", 17.88, 0.250), ("e5", 28.31, 0.284)),
    *(("bge_large", 30.87, 0.314), ("biolinkbert", 31.24, 0.510), ("bge_m3", 33.38, 0.209), ("qwen25", 41.14, 0.327)),
    *(("gemma", 56.98, 0.455), ("qwen3_4b", 77.99, 0.446)),
]
POINTS = pl.DataFrame(
    [(name, ms, x, "a GPU", True) for name, ms, x in STUDY]
    + [("base", 15.0, 0.5, "a processor", False), ("tuned", 15.0, 0.6, "a processor", False)],
    schema=["model", "latency_ms", "separation", "machine", "published"],
    orient="row",
)
MTEB = {
    BASE: {
        "params": {"base": BASE},
        "metrics": {
            "BIOSSES": {"main_score": 0.816},
            "SciFact": {"main_score": 0.645},
            "Long name of it": {"main_score": 1},
        },
    },
    "seed17": {"params": {"base": BASE}, "metrics": {"BIOSSES": {"main_score": 0.8}, "SciFact": {"main_score": 0.6}}},
}
RETRIEVAL = {m: {"metrics": {"definition_cardiology": {"mrr": mrr}}} for m, mrr in ((BASE, 0.64), ("seed17", 0.7))}
RUNS = pl.DataFrame({"name": ["plain", "kept", "weak"], "gain": [0.06, 0.05, 0.01], "loss": [0.03, 0.005, -0.002]})
RUNS = RUNS.with_columns(gain_low=pl.Series([0.03, None, None]), gain_high=pl.Series([0.08, None, None]))
RUNS = RUNS.with_columns(loss_low=pl.Series([0.02, None, None]), loss_high=pl.Series([0.045, None, None]))
BATCHES = {
    "metrics": {
        "equal pairs, 32": {
            "batch_size": 32,
            "learning_rate": 2e-3,
            "steps": 56,
            "all": [0.75, 0.77],
            "dev_mrr_base": 0.7,
        },
        "equal pairs, 900": {"batch_size": 900, "learning_rate": 1e-3, "steps": 2, "all": [0.73]},
        "equal steps, 32": {"batch_size": 32, "learning_rate": 1e-3, "steps": 14, "all": [0.74]},
    }
}
SIZE = {"build_seconds": 9.0, "disk_gb": 0.5, "gb": 1.0}
SEARCH = {
    "device": "EPYC",
    "counts": {"threads": 2, "neighbours": 10},
    "metrics": {
        "words, BM25": {"median": 1000.0, "all": [900.0, 1000.0, 1100.0]},
        "vectors, 1000": SIZE
        | {"probes": {"4": {"recall": 0.75, "ms_a_query": 0.2}, "1": {"recall": 0.5, "ms_a_query": 0.1}}},
        "vectors, 1000000": SIZE | {"probes": {"1": {"recall": 0.4, "ms_a_query": 0.3}}},
    },
}
CURVE = {
    "metrics": {"weight": [1.0, 0.0, 0.5], "corpus_dev_mrr": [0.66, 0.6, 0.64], "SciFact_train": [0.75, 0.8, 0.798]}
}
GRID = [
    {"share": share, "loss": loss, "rank": rank, "seed": seed, "value": 0.5 + share / 10 + rank / 1000 + seed / 100}
    for share, loss, rank, seed in itertools.product((0.25, 1.0), ("InfoNCE", "triplet"), (8, 16), (1, 2))
]
GAINS = pl.DataFrame(
    [
        ("Cardiology", "definitions, n = 9", "tuned", 0.06, 0.02, 0.11),
        ("Cardiology", "definitions, n = 9", "BM25", 0.03, None, None),
        ("Other subjects", "benchmark, n = 5", "tuned", -0.04, -0.05, -0.03),
    ],
    schema=["group", "row", "mark", "value", "low", "high"],
    orient="row",
)
CLASSES = [
    {"paper": paper, "class": name, "claims": n}
    for paper, counts in (("A", (40, 2, 0)), ("B", (0, 10, 30)))
    for name, n in zip(("agrees", "not tested", "closed data"), counts, strict=True)
]
CELL = {"difference": 0.06, "low": 0.02, "high": 0.11}
MATRIX = {
    "counts": {task: {"queries": 1177} for task in ("definition_cardiology", "medquad_other")},
    "metrics": {
        "arms": {
            "all": {"definition_cardiology": CELL, "medquad_other": {"difference": -0.1, "low": -0.2, "high": 0.01}},
            "heading": {"definition_cardiology": CELL, "medquad_other": CELL},
        }
    },
}
CONTRAST = CELL | {"p_holm": 0.01, "queries": 1084, "documents": 49}
CONTRASTS = {
    "folds": {"format": CONTRAST | {"by_document": CELL | {"difference": 0.05}}},
    "matrix": {"interaction": CONTRAST},
}
ALL = {
    "forest": lambda: front_page.forest(GAINS),
    "verdicts": lambda: front_page.verdict_bars(CLASSES),
    "matrix": lambda: retrieval_figures.matrix(MATRIX),
    "contrasts": lambda: retrieval_figures.contrasts(CONTRASTS),
    "separation": lambda: retrieval_figures.separation(SIMILARITY),
    "distributions": lambda: retrieval_figures.distributions(SIMILARITY, [BASE, "seed17"]),
    "probe": lambda: retrieval_figures.probe(SIMILARITY, [BASE, "seed17"]),
    "latency": lambda: report_speed.latency(ENCODE),
    "throughput": lambda: report_speed.throughput(ENCODE),
    "memory": lambda: report_speed.memory_against_parameters(ENCODE, PUBLISHED),
    "latency-separation": lambda: report_speed.latency_against_separation(POINTS),
    "peers": lambda: report_speed.against_peers({"training": PEERS}),
    "growth": lambda: report_speed.growth(GROWTH),
    "batches": lambda: report_speed.batches(BATCHES),
    "on-disk": lambda: report_speed.on_disk(SEARCH),
    "heat-map": lambda: forgetting_figures.heat_map(MTEB),
    "radar": lambda: forgetting_figures.radar({"retrieval": RETRIEVAL, "mteb": MTEB}, [BASE, "seed17"]),
    "frontier": lambda: forgetting_figures.frontier(RUNS),
    "merge-curve": lambda: forgetting_figures.merge_curves({"a": CURVE}),
    "ablation": lambda: training_figures.ablation(GRID, "MRR on dev"),
}
ALONE = {
    "forest": lambda: front_page.forest(GAINS[:1]),
    "verdicts": lambda: front_page.verdict_bars(CLASSES[:1]),
    "separation": lambda: retrieval_figures.separation({BASE: SIMILARITY[BASE]}),
    "distributions": lambda: retrieval_figures.distributions(SIMILARITY, [BASE]),
    "probe": lambda: retrieval_figures.probe(SIMILARITY, [BASE]),
    "latency": lambda: report_speed.latency(ENCODE | {"metrics": {"a": arm(1.0, 2.0)}}),
    "memory": lambda: report_speed.memory_against_parameters(ENCODE | {"metrics": {"a": arm(1.0, 2.0)}}),
    "latency-separation": lambda: report_speed.latency_against_separation(POINTS[-1:]),
    "heat-map": lambda: forgetting_figures.heat_map({BASE: MTEB[BASE]}),
    "radar": lambda: forgetting_figures.radar({"retrieval": RETRIEVAL, "mteb": MTEB}, [BASE]),
    "frontier": lambda: forgetting_figures.frontier(RUNS[:1]),
    "merge-curve": lambda: forgetting_figures.merge_curves(
        {"a": {"metrics": {"weight": [0.0], "corpus_dev_mrr": [0.6]}}}
    ),
    "ablation": lambda: training_figures.ablation(GRID[:1], "MRR on dev"),
}


def drawn_texts(fig):
    return [text.get_text() for text in fig.findobj(mpl.text.Text)]


@pytest.mark.parametrize("name", ALL)
def test_the_same_numbers_give_the_same_bytes(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    files = []
    for profile in ("one", "two"):
        show.save(profile, name, *ALL[name]())
        folder = tmp_path / profile / "figures"
        files.append([(folder / f"{name}.{end}").read_bytes() for end in ("svg", "csv")])
    assert files[0] == files[1]
    assert files[0][0].startswith(b"<?xml") and b"<image" not in files[0][0]


@pytest.mark.parametrize("name", ALONE)
def test_one_model_is_enough(name):
    fig, drawn = ALONE[name]()
    assert len(drawn) >= 1 and fig.axes
    fig.draw_without_rendering()


@pytest.mark.parametrize("name", ALL)
def test_a_figure_is_closed_names_its_axes_and_leaves_no_style_behind(name):
    before = dict(mpl.rcParams)
    fig, _ = ALL[name]()
    assert plt.get_fignums() == [] and dict(mpl.rcParams) == before
    assert name == "radar" or all(ax.get_xlabel() for ax in fig.axes)


def test_separation_is_drawn_with_its_interval_and_floors_first():
    fig, drawn = retrieval_figures.separation(SIMILARITY)
    assert drawn["model"].to_list() == ["BM25", BASE, "seed17"]
    assert drawn["separation"].to_list() == [-0.2, 0.5, 0.6]
    bars = [patch.get_width() for patch in fig.axes[0].patches]
    assert bars == pytest.approx([-0.2, 0.5, 0.6])
    ends = fig.axes[0].collections[0].get_segments()
    assert [tuple(end[:, 0]) for end in ends] == [pytest.approx(v) for v in [(-0.3, -0.15), (0.4, 0.55), (0.5, 0.65)]]


def test_each_distribution_has_area_one_and_no_kind_is_left_out():
    fig, drawn = retrieval_figures.distributions(SIMILARITY, [BASE, "seed17"])
    assert len(fig.axes) == 2 and len(drawn) == 2 * 3 * 40
    area = ((pl.col("to") - pl.col("from")) * pl.col("density")).sum()
    assert drawn.group_by("model", "kind").agg(area=area)["area"].to_list() == [pytest.approx(1)] * 6
    top = drawn.filter(pl.col("pairs") == 3)  # 3 of 4 pairs in a cell 0.05 wide
    assert top["density"].to_list() == [pytest.approx(15)] * 2 and top["kind"].unique().to_list() == ["similar"]


def test_the_probe_ends_with_all_and_draws_no_coin():
    fig, drawn = retrieval_figures.probe(SIMILARITY, [BASE, "seed17"])
    labels = [text.get_text() for text in fig.axes[0].get_yticklabels()]
    assert labels == ["negation, n = 1,200", "laterality", "all"]
    assert [0.5, 0.5] not in [list(line.get_xdata()) for line in fig.axes[0].lines]
    assert drawn.select("accuracy", "low", "high").unique().row(0) == (0.6, 0.4, 0.75)


def test_ours_stands_beside_the_peer_and_the_limit_with_its_spread():
    fig, drawn = report_speed.against_peers({"training": PEERS})
    assert drawn["arm"].to_list() == ["float32: ours", "float32: peer", "float32: limit", "bfloat16: ours"]
    assert drawn.filter(arm="float32: peer").row(0)[-3:] == (10.0, 9.0, 11.0)
    assert fig.axes[0].get_xlim()[0] == 0, "a bar's length must mean its speed"
    rows = report_speed.peer_rows({"training": PEERS})
    assert [row["a second"] for row in rows] == ["40 pairs", "10 pairs", "64 pairs", "60 pairs"]
    assert [row["ours is so many times as fast"] for row in rows] == [
        "",
        "4.00 (3.90 to 4.20)",
        "0.62 (0.60 to 0.65)",
        "",
    ]


def test_mining_stands_among_the_peers():
    metrics = {"ours_seconds": 1.0, "peer_seconds": 2.0, "peer_over_ours": 2.0, "least": 1.5, "most": 2.5}
    rows = report_speed.mining_rows({"metrics": metrics, "counts": {"texts": 10_000}})
    assert rows[0].keys() == report_speed.peer_rows({"training": PEERS})[0].keys()
    assert [list(row.values())[2:] for row in rows] == [
        ["ours", "10,000 pairs", ""],
        ["peer", "5,000 pairs", "2.00 (1.50 to 2.50)"],
    ]


def test_a_part_is_worth_what_training_loses_without_it():
    arms = {"all": [10.0, 20.0], "without packing": [5.0, 18.0], "limit": [20.0, 40.0]}
    metrics = {f"float32, {name}": {"median": 1.0, "all": values} for name, values in arms.items()}
    rows = report_speed.part_rows({"metrics": metrics})
    assert [row["training"] for row in rows] == ["all", "without packing", "limit"]
    assert [row["of the whole"] for row in rows] == [
        "1.00 (1.00 to 1.00)",
        "0.70 (0.50 to 0.90)",
        "2.00 (2.00 to 2.00)",
    ]


def test_a_steps_shares_begin_with_the_largest_and_end_with_the_limit():
    params = {
        f"{of}, shares of a step": {"limit": 0.5, "norms": 0.1, "products": 0.9} for of in ("float32", "bfloat16")
    }
    rows = report_speed.share_rows({"params": params})
    assert [row["work"] for row in rows] == ["products", "norms", "limit: its products alone"]
    assert [row["float32"] for row in rows] == ["90 %", "10 %", "50 %"]


def test_growth_names_each_steps_slope():
    fig, drawn = report_speed.growth(GROWTH)
    assert len(drawn) == 6 and drawn["step"][0] == "reading (texts), slope 1.50"
    assert all(ax.get_xscale() == ax.get_yscale() == "log" for ax in fig.axes)


def test_batches_show_every_seed_and_how_many_steps_they_took():
    fig, drawn = report_speed.batches(BATCHES)
    assert drawn["dev_mrr"].to_list() == [0.75, 0.77, 0.73, 0.74]
    assert sorted(text.get_text() for text in fig.axes[0].texts) == ["14 steps", "2 steps", "56 steps"]
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["base", "equal pairs", "equal steps"]


def test_an_index_shows_what_it_misses_for_what_it_saves():
    drawn = report_speed.on_disk(SEARCH)[1]
    assert drawn.rows() == [(1000, 1, 0.5, 0.1), (1000, 4, 0.75, 0.2), (10**6, 1, 0.4, 0.3)]
    rows = report_speed.index_rows(SEARCH)
    assert rows[0]["cells: 4"] == "0.750, 0.20 ms" and [row["vectors"] for row in rows] == [1000, 10**6]
    assert report_speed.word_rows(SEARCH) == [{"by words": "BM25", "queries/s": "1,000 (900 to 1,100)"}]


def test_memory_of_a_step_is_weights_optimiser_and_activations():
    """By hand: 100 million numbers of 10 blocks at 2 bytes, 10 million words at 2, a million trained at 24, 9,000 tokens."""
    counts = {"pairs": 100, "tokens_a_text": 30, "layers": 10, "parameters": 110_000_000, "words": 10_000_000}
    metrics = {"fused": 100_000.0, "peft": 200_000.0, "checkpoint": 2_000.0}
    first, second, third, *_ = report_speed.memory_rows({"counts": counts | {"trained": 10**6}, "metrics": metrics})
    assert [first[name] for name in ("weights, GB", "adapter and optimiser, GB", "activations, GB")] == [
        "0.2",
        "0.0",
        "9.0",
    ]
    assert first["all, GB"] == "10.7" and first["smallest card, GB"] == "16"
    assert second["activations, GB"] == "0.4"  # (2,000 * 10 + 100,000 / 4) * 9,000
    assert third["activations, GB"] == "18.0" and third["weights, GB"] == "0.1"  # 8 bits, peft's own layers


def test_speed_is_drawn_best_first_with_random_weights_hollow_and_a_busy_machine_named():
    fig, drawn = report_speed.latency(ENCODE)
    assert drawn["latency_ms"].to_list() == [15.0, 16.0, 100.0]
    assert drawn["latency_p95_ms"].to_list() == [22.5, 24.0, 150.0]
    dots = [line for line in fig.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in dots] == [False, False, True]
    assert "a processor, 2 threads, busy with other work" in fig.axes[0].get_xlabel()
    assert report_speed.throughput(ENCODE)[1]["texts_per_s"].to_list() == [80.0, 79.0, 10.0]


def test_published_memory_is_hollow_and_the_lines_are_bytes_a_parameter():
    fig, drawn = report_speed.memory_against_parameters(ENCODE, PUBLISHED)
    ours, published = fig.axes[0].collections
    assert drawn["published"].to_list() == [False] * 3 + [True] * 2
    assert published.get_offsets().tolist() == [[335.0, 1.55], [2600.0, 12.02]]
    assert mpl.colors.to_hex(published.get_facecolor()[0]) == "#ffffff" != mpl.colors.to_hex(ours.get_facecolor()[0])
    four = fig.axes[0].lines[0]
    assert np.array(four.get_ydata()) * 1e9 == pytest.approx(4 * np.array(four.get_xdata()) * 1e6)


def test_of_the_studys_models_two_are_beaten_by_none():
    assert report_speed.pareto(STUDY) == [
        "mpnet",
        "biolinkbert",
    ]  # the study adds BGE-small, slower and lower than MPNet


def test_pareto_keeps_equals_and_drops_what_is_only_as_good():
    assert report_speed.pareto([("a", 1, 1), ("b", 1, 1), ("c", 2, 1), ("d", 1, 0)]) == ["a", "b"]
    assert report_speed.pareto([]) == []


def test_pareto_agrees_with_walking_along_the_costs():
    draw = random.Random(17)
    for _ in range(50):
        points = [(str(i), draw.randint(0, 9), draw.randint(0, 9)) for i in range(12)]
        best, kept = -1, []
        for cost in sorted({c for _, c, _ in points}):
            top = max(g for _, c, g in points if c == cost)
            if top > best:
                kept += [n for n, c, g in points if (c, g) == (cost, top)]
                best = top
        assert sorted(report_speed.pareto(points)) == sorted(kept)


def test_two_machines_share_no_axis_and_published_points_are_judged_among_themselves():
    fig, drawn = report_speed.latency_against_separation(POINTS)
    assert [ax.get_title() for ax in fig.axes] == ["a GPU", "a processor"]
    assert not fig.axes[0].get_shared_x_axes().joined(*fig.axes)
    assert drawn.filter(pl.col("pareto"))["model"].to_list() == ["mpnet", "biolinkbert", "tuned"]
    together, _ = report_speed.latency_against_separation(POINTS.with_columns(machine=pl.lit("one")))
    assert len(together.axes) == 1


def test_no_two_names_of_points_overlap():
    fig, _ = report_speed.latency_against_separation(POINTS)
    fig.draw_without_rendering()
    for ax in fig.axes:
        frames = [mpl.text.Text.get_window_extent(text) for text in ax.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(frames, 2))


def test_the_heat_map_writes_each_score_and_leaves_what_was_not_run_white():
    fig, drawn = forgetting_figures.heat_map(MTEB)
    assert drawn.rows() == [(BASE, 0.816, 0.645, 1.0), ("seed17", 0.8, 0.6, None)]
    assert {"0.816", "0.645", "1.000", "0.800", "0.600"} <= set(drawn_texts(fig))


def test_the_radar_leaves_out_an_axis_without_records_and_needs_three():
    _, drawn = forgetting_figures.radar({"retrieval": RETRIEVAL, "mteb": MTEB}, [BASE, "seed17"])
    assert drawn.columns == ["model", "cardiology definitions, MRR", "BIOSSES, Spearman", "SciFact, nDCG@10"]
    assert drawn.rows() == [(BASE, 0.64, 0.816, 0.645), ("seed17", 0.7, 0.8, 0.6)]
    fig, drawn = forgetting_figures.radar({"retrieval": RETRIEVAL}, ["seed17"])
    assert drawn.rows() == [("too few scores for a radar",)] and "too few scores for a radar" in drawn_texts(fig)


def test_a_profile_without_grid_or_curve_gets_figures_that_say_so():
    assert training_figures.ablation([], "MRR")[1].rows() == [("no ablation in this profile",)]
    assert forgetting_figures.merge_curves({})[1].rows() == [("no merge curve in this profile",)]


def test_the_frontiers_corner_takes_in_its_edges():
    fig, drawn = forgetting_figures.frontier(RUNS)
    assert drawn["reached"].to_list() == [False, True, False]
    assert {"plain", "kept", "weak"} <= set(drawn_texts(fig))
    (low, high), (left, _) = fig.axes[0].get_ylim(), fig.axes[0].get_xlim()
    assert low < -0.002 and high > 0.045 and left < 0  # the interval of the first is inside too
    assert [c.get_segments()[0].tolist() for c in fig.axes[0].collections if hasattr(c, "get_segments")] == [
        [[0.03, 0.03], [0.08, 0.03]],
        [[0.06, 0.02], [0.06, 0.045]],
    ]


def test_the_merge_curves_are_differences_from_no_merge_and_the_chosen_point_is_ringed():
    fig, drawn = forgetting_figures.merge_curves({"a": CURVE})
    assert drawn["weight"].to_list() == [1.0, 0.0, 0.5]
    assert drawn["gain"].to_list() == pytest.approx([0.06, 0, 0.04])
    assert drawn["worst_loss"].to_list() == pytest.approx([0.05, 0, 0.002])
    assert {"0.5", "1", "chosen"} <= set(drawn_texts(fig))
    (ring,) = (line for line in fig.axes[0].lines if line.get_label() == "chosen")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((0.04, 0.002))


def test_the_ablation_is_the_seeds_mean_and_range():
    fig, drawn = training_figures.ablation(GRID, "MRR on dev")
    assert [ax.get_title() for ax in fig.axes] == ["InfoNCE", "triplet"]
    found = drawn.filter(pl.col("loss") == "triplet", pl.col("rank") == 16, pl.col("share") == 0.25)
    assert found.select("mean", "low", "high", "seeds").row(0) == pytest.approx((0.556, 0.551, 0.561, 2))
    assert len(drawn) == 8


def test_the_forest_draws_each_mark_at_its_value_with_its_interval_below_the_name_of_its_row():
    fig, drawn = front_page.forest(GAINS)
    ax = fig.axes[0]
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    dots = {(x, y) for line in ax.lines[1:] for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert drawn.equals(GAINS) and sorted(x for x, _ in dots) == [-0.04, 0.03, 0.06]
    (below,) = (y for x, y in dots if x == -0.04)
    assert (
        heights["Cardiology"]
        < heights["definitions, n = 9"]
        < heights["Other subjects"]
        < heights["benchmark, n = 5"]
        < below
    )
    ends = [tuple(segment[:, 0]) for bars in ax.collections for segment in bars.get_segments()]
    assert sorted(ends) == [pytest.approx(v) for v in ((-0.05, -0.03), (0.02, 0.11), (0.03, 0.03))]
    assert ax.get_ylim()[0] > below and len(fig.legends[0].get_texts()) == 2


def test_the_bars_of_verdicts_write_every_count_and_the_total_of_each_paper_and_class():
    fig, drawn = front_page.verdict_bars(CLASSES)
    texts = drawn_texts(fig)
    assert {"40", "2", "10", "30", "A: 42", "B: 40", "agrees, 40", "not tested, 12", "closed data, 30"} <= set(texts)
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert legend == [
        "agrees, 40",
        "not tested, 12",
        "closed data, 30",
    ]  # the order given, of the first paper's zeros too
    assert len(drawn) == 4 and "0" not in [text.get_text() for text in fig.axes[0].texts]
    bars = [(patch.get_x(), patch.get_width()) for patch in fig.axes[0].patches if patch.get_width() > 1]
    assert sorted(bars) == [(0, 10), (0, 40), (10, 30), (40, 2)]


def test_no_two_classes_of_the_ledger_look_alike_in_the_bars():
    rows = [{"paper": "A", "class": name, "claims": 10} for name in verdicts.CLASSES]
    fig, _ = front_page.verdict_bars(rows)
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in fig.axes[0].patches if patch.get_width() > 1}
    assert len(looks) == len(rows)


def test_the_matrix_is_as_far_from_its_middle_for_a_loss_as_for_a_gain_and_bold_where_it_counts():
    fig, drawn = retrieval_figures.matrix(MATRIX)
    assert drawn.columns == ["arm", "task", "difference", "low", "high"] and len(drawn) == 4
    weights = {text.get_text(): text.get_weight() for text in fig.axes[0].texts}
    assert weights["+0.060"] == "bold" and weights["-0.100"] == "normal" and "-0.20, +0.01" in weights
    colours = [mpl.colors.to_hex(patch.get_facecolor()) for patch in fig.axes[0].patches]
    ends = mpl.colormaps["PuOr"]
    assert colours == [mpl.colors.to_hex(ends(x)) for x in (0.8, 0.0, 0.8, 0.8)]
    assert fig.axes[0].get_xticklabels()[0].get_text() == "definitions,\ncardiology\nn = 1,177"


def test_contrasts_are_drawn_by_query_and_where_known_by_document():
    _, drawn = retrieval_figures.contrasts(CONTRASTS)
    assert drawn["value"].to_list() == [0.06, 0.05, 0.06]
    assert "n = 1,084 from 49 documents" in drawn["row"][0]


def test_an_experiment_that_was_not_run_gets_figures_that_say_so():
    for _, drawn in (retrieval_figures.matrix(None), retrieval_figures.contrasts(front_page.contrasts({}))):
        assert drawn.columns == ["why"] and "not run" in drawn["why"][0]
