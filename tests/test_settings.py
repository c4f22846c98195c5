"""What cannot work is refused before anything runs, in one sentence: which notebook, which parameter, found, wanted."""

import math

import pytest

from cardioembed_study import paths, settings

LONG = "a" * 300
NAMED = "wanted letters, digits, '_', '-' and single '.'"
SHARES = "wanted shares of train, dev and test, each above 0 and together 1"
REFUSED = [  # notebook, given, what the message says
    ("02_train", {"learning_rate": "2e-4"}, r"learning_rate is '2e-4'; .* YAML takes it for a word: write 2\.0e-4"),
    ("01_corpus", {"profile": "../open"}, rf"profile is '\.\./open'; {NAMED}"),
    ("01_corpus", {"profile": ""}, rf"profile is ''; {NAMED}"),
    ("01_corpus", {"sources": []}, "sources is .*at least 1 item"),
    ("01_corpus", {"sources": ["primer", "primer"]}, "sources is .*'primer' stands twice, wanted each once"),
    (
        "01_corpus",
        {"sources": "primer"},
        r'sources is \'primer\'.*valid list, to papermill as -y "sources: \[primer\]"',
    ),
    ("01_corpus", {"sources": [7]}, "sources is 7.*valid string"),
    ("01_corpus", {"sources": ["../primer"]}, rf"sources is '\.\./primer'; {NAMED}"),
    ("01_corpus", {"sources": [f"s{n}" for n in range(1001)]}, "sources is .*at most 1000 items"),
    (
        "01_corpus",
        {"sources": ["medquad"]},
        "it is a manifest of .*/benchmarks, wanted one of data_manifests/sources",
    ),
    ("01_corpus", {"sources": ["mimic3"]}, "it is a manifest of data_manifests/clinical"),
    ("01_corpus", {"benchmarks": ["primer"]}, "benchmarks is 'primer'; it is a manifest of data_manifests/sources"),
    ("01_corpus", {"benchmarks": ["medquad", "medquad"]}, "'medquad' stands twice"),
    ("01_corpus", {"near_duplicate": 1e-9}, r"near_duplicate is 1e-09.*greater than or equal to 0\.2"),
    ("01_corpus", {"near_duplicate": 1.1}, "less than or equal to 1"),
    ("01_corpus", {"near_duplicate": math.nan}, "near_duplicate is nan.*finite number"),
    ("01_corpus", {"near_duplicate": "0.9"}, r"near_duplicate is '0\.9'.*valid number"),
    ("01_corpus", {"cardiology_split": [1.0, 0.0, 0.0]}, rf"cardiology_split is \[1\.0, 0\.0, 0\.0\]; {SHARES}"),
    ("01_corpus", {"cardiology_split": [0.5, 0.3, 0.3]}, SHARES),
    ("01_corpus", {"cardiology_split": [0.5, 0.5]}, "at least 3 items"),
    ("01_corpus", {"cardiology_split": [0.2, 0.2, 0.2, 0.4]}, "at most 3 items"),
    ("01_corpus", {"cardiology_split": [1.5, -0.25, -0.25]}, r"cardiology_split is 1\.5"),
    ("01_corpus", {"other_split": [0.0, 0.5, 0.5]}, f"other_split is .*{SHARES}"),
    ("01_corpus", {"other_split": [0.5, math.inf, 0.1]}, "other_split is inf"),
    ("01_corpus", {"seed": -1}, "seed is -1.*greater than or equal to 0"),
    ("01_corpus", {"seed": 2**70}, "seed is 1180591620717411303424.*less than or equal to 4294967295"),
    ("01_corpus", {"seed": 2**32}, "seed is 4294967296"),
    ("01_corpus", {"seed": 1.5}, r"seed is 1\.5.*valid integer"),
    ("01_corpus", {"seed": True}, "seed is True.*valid integer"),
    ("01_corpus", {"sorces": ["primer"]}, "no parameter 'sorces'; did you mean 'sources'"),
    ("01_notes", {"source": "../mimic3"}, r"source is '\.\./mimic3'; wanted small letters, digits and '_'"),
    ("01_notes", {"source": LONG}, "source is 'a{90,99}; wanted small letters"),
    (
        "01_notes",
        {"source": "primer"},
        "it is a manifest of data_manifests/sources, wanted one of data_manifests/clinical",
    ),
    ("01_notes", {"patients": -1}, "patients is -1"),
    ("01_notes", {"patients": 1e9}, r"patients is 1000000000\.0.*valid integer"),
    ("01_notes", {"patients": 10**9}, "patients is 1000000000; .*less than or equal to 1000000"),
    ("01_notes", {"split": [1.0, 0.0, 0.0]}, f"split is .*{SHARES}"),
    ("01_notes", {"split": [0.8, 0.1, 0.2]}, f"split is .*{SHARES}"),
    ("01_notes", {"split": "0.8,0.1,0.1"}, r'-y "split: \[0\.8,0\.1,0\.1\]"'),
    ("01_notes", {"within_admission": 1}, "within_admission is 1.*valid boolean"),
    ("01_notes", {"notes_per_admission": 0}, "notes_per_admission is 0"),
    ("01_notes", {"notes_per_admission": 1e7}, r"notes_per_admission is 10000000\.0.*valid integer"),
    ("01_notes", {"notes_per_admission": 10**7}, "less than or equal to 1000"),
    ("01_notes", {"seed": -1}, "seed is -1"),
    ("01_queries", {"model": "m"}, "writer 'rule' wants model empty, found 'm'"),
    ("01_queries", {"writer": "service", "model": "m"}, "writer 'service' wants service given, found ''"),
    ("01_queries", {"writer": "local"}, "writer 'local' wants model given, found ''"),
    ("01_queries", {"kinds": ["summary"]}, "kinds is .*'keyword', 'natural_language', 'procedure' or 'paraphrase'"),
    ("02_train", {"run": LONG}, f"run is 'a{{90,99}}; {NAMED}"),
    ("02_train", {"run": "a.."}, rf"run is 'a\.\.'; {NAMED}"),
    ("02_train", {"run": "a."}, rf"run is 'a\.'; {NAMED}"),
    ("02_train", {"run": ".."}, rf"run is '\.\.'; {NAMED}"),
    ("02_train", {"run": "a..b"}, rf"run is 'a\.\.b'; {NAMED}"),
    ("02_train", {"run": "a/b"}, f"run is 'a/b'; {NAMED}"),
    ("02_train", {"run": "a\n"}, NAMED),
    ("02_train", {"run": 17}, "run is 17.*valid string"),
    ("02_train", {"recipe": LONG}, f"recipe is .*{NAMED}"),
    ("02_train", {"recipe": ""}, f"recipe is ''; {NAMED}"),
    ("02_train", {"grid": LONG}, f"grid is .*{NAMED}"),
    ("02_train", {"base": LONG}, f"base is .*{NAMED}"),
    ("02_train", {"base": "Qwen/Qwen3"}, f"base is 'Qwen/Qwen3'; {NAMED}"),
    ("02_train", {"pairs": []}, "pairs is .*at least 1 item"),
    ("02_train", {"pairs": ["definition", "definition"]}, "pairs is .*'definition' stands twice, wanted each once"),
    ("02_train", {"pairs": "definition"}, r'to papermill as -y "pairs: \[definition\]"'),
    ("02_train", {"pairs": '["definition"]'}, r'to papermill as -y "pairs: \[definition\]"'),
    ("02_train", {"pairs": ["defnition"]}, "pairs is 'defnition'.*'definition', 'heading'"),
    ("02_train", {"pairs": ["temporal", "definition"]}, "pairs is .*; wanted 'temporal' by itself"),
    ("02_train", {"max_pairs_per_kind": -1}, "max_pairs_per_kind is -1"),
    ("02_train", {"max_pairs_per_kind": 10**12}, "max_pairs_per_kind is 1000000000000; "),
    ("02_train", {"data_share": 0.0}, r"data_share is 0\.0.*greater than or equal to 0\.001"),
    ("02_train", {"data_share": 1e-12}, r"data_share is 1e-12.*greater than or equal to 0\.001"),
    ("02_train", {"data_share": 1.5}, "less than or equal to 1"),
    ("02_train", {"negatives": "hard"}, "negatives is 'hard'.*'none', 'random_distant' or 'mined'"),
    ("02_train", {"negatives": None}, "negatives is None"),
    ("02_train", {"negatives": "mined:10-50"}, "negatives is 'mined:10-50'; wanted 'none'"),
    ("02_train", {"negatives": "dense:numb=4"}, "'numb' is no detail of mining; did you mean 'num'"),
    ("02_train", {"negatives": "dense:num=0"}, "num is '0'; wanted a whole number from 1 to 100"),
    ("02_train", {"negatives": "dense:num=1.5"}, "num is '1.5'; wanted a whole number"),
    ("02_train", {"negatives": "dense:relative_margin=nan"}, "relative_margin is 'nan'; wanted a number from 0 to 1"),
    ("02_train", {"negatives": "dense:margin=-1"}, "margin is '-1'; wanted a number from 0 to 1000"),
    ("02_train", {"negatives": "bm25:50-10"}, "a window of 0 ranks cannot give 1"),
    ("02_train", {"negatives": "bm25:10-12,num=3"}, "a window of 2 ranks cannot give 3"),
    ("02_train", {"negatives": "dense:sampling=all"}, "sampling is 'all'; wanted top or random"),
    ("02_train", {"negatives": "dense:sampling=random"}, "sampling=random wants a window to draw from"),
    ("02_train", {"negatives": "dense:num=2,num=3"}, "'num=3' says again what was said before it"),
    ("02_train", {"negatives": "dense:base=../x"}, f"base is '../x'; {NAMED}"),
    ("02_train", {"tuning": "half"}, "tuning is 'half'.*'lora' or 'full'"),
    ("02_train", {"tuning": "full", "base_bits": 8}, "tuning 'full' wants base_bits 0, found 8"),
    ("02_train", {"lora_rank": 0}, "lora_rank is 0"),
    ("02_train", {"lora_rank": 2048}, "less than or equal to 1024"),
    ("02_train", {"lora_rank": 8.0}, r"lora_rank is 8\.0.*valid integer"),
    ("02_train", {"lora_alpha": 0.0}, r"lora_alpha is 0\.0"),
    ("02_train", {"lora_alpha": math.inf}, "lora_alpha is inf.*finite number"),
    ("02_train", {"lora_alpha": 1e300}, r"lora_alpha is 1e\+300.*less than or equal to 100000"),
    ("02_train", {"lora_dropout": 1.0}, "less than 1"),
    ("02_train", {"lora_dropout": -0.1}, r"lora_dropout is -0\.1"),
    ("02_train", {"lora_targets": "all"}, "lora_targets is 'all'"),
    ("02_train", {"base_bits": 16}, "base_bits is 16.*0, 4 or 8"),
    ("02_train", {"batch_size": 1}, "batch_size is 1; input should be greater than or equal to 2"),
    ("02_train", {"batch_size": 10**9}, "less than or equal to 65536"),
    ("02_train", {"epochs": 0}, "epochs is 0"),
    ("02_train", {"epochs": 10**6}, "less than or equal to 1000"),
    ("02_train", {"learning_rate": 0.0}, r"learning_rate is 0\.0"),
    ("02_train", {"learning_rate": 1e-300}, "learning_rate is 1e-300"),
    ("02_train", {"learning_rate": "2e-4"}, "learning_rate is '2e-4'.*valid number"),
    ("02_train", {"learning_rate": math.nan}, "learning_rate is nan.*finite number"),
    ("02_train", {"warmup_fraction": 1.1}, r"warmup_fraction is 1\.1"),
    ("02_train", {"weight_decay": math.inf}, "weight_decay is inf.*finite number"),
    ("02_train", {"weight_decay": 100.0}, "less than or equal to 10"),
    ("02_train", {"clip_norm": 0.0}, r"clip_norm is 0\.0"),
    ("02_train", {"clip_norm": math.inf}, "clip_norm is inf.*finite number"),
    ("02_train", {"loss": "infonse"}, "loss is 'infonse'.*'infonce'"),
    ("02_train", {"loss": "triplet"}, "loss 'triplet' wants negatives other than 'none'"),
    ("02_train", {"loss": "soft_chapter"}, r"loss 'soft_chapter' wants pairs \['temporal'\], found \['definition'"),
    ("02_train", {"loss": "himulcon"}, r"loss 'himulcon' wants pairs \['temporal'\]"),
    (
        "02_train",
        {"loss": "himulcon", "pairs": ["temporal"], "negatives": "mined"},
        "wants negatives 'none', found 'mined'",
    ),
    ("02_train", {"temperature": 0.0}, r"temperature is 0\.0"),
    ("02_train", {"temperature": 1e-300}, r"temperature is 1e-300; .*greater than or equal to 0\.001"),
    ("02_train", {"temperature": math.inf}, "temperature is inf"),
    ("02_train", {"margin": 0.0}, r"margin is 0\.0"),
    ("02_train", {"margin": 3.0}, "less than or equal to 2"),
    ("02_train", {"symmetric": "yes"}, "symmetric is 'yes'.*valid boolean"),
    ("02_train", {"keep_weight": math.inf}, "keep_weight is inf.*finite number"),
    ("02_train", {"keep_weight": -1.0}, r"keep_weight is -1\.0"),
    ("02_train", {"keep_texts": 0}, "keep_texts is 0"),
    ("02_train", {"keep_texts": 10**9}, "less than or equal to 65536"),
    ("02_train", {"keep_each": 10**9}, "less than or equal to 1000000"),
    ("02_train", {"max_length": 7}, "max_length is 7"),
    ("02_train", {"max_length": 10**9}, "less than or equal to 131072"),
    ("02_train", {"precision": "float16"}, "precision is 'float16'"),
    ("02_train", {"token_budget": 63}, "token_budget is 63"),
    ("02_train", {"token_budget": 10**12}, "less than or equal to 16777216"),
    ("02_train", {"eval_every": 0}, "eval_every is 0"),
    ("02_train", {"eval_every": 10**12}, "eval_every is 1000000000000"),
    ("02_train", {"patience": -1}, "patience is -1"),
    ("02_train", {"patience": 10**12}, "patience is 1000000000000"),
    ("02_train", {"checkpoint_every": 0}, "checkpoint_every is 0"),
    ("02_train", {"merge_weights": [0.5, 0.5]}, r"0\.5 stands twice"),
    ("02_train", {"merge_weights": [math.nan]}, "merge_weights is nan"),
    ("02_train", {"merge_weights": [2.0]}, r"merge_weights is 2\.0"),
    ("02_train", {"merge_weights": 0.5}, r"merge_weights is 0\.5.*valid list"),
    ("02_train", {"seed": 2**70}, "seed is 1180591620717411303424"),
    ("03_retrieval", {"base": "a."}, rf"base is 'a\.'; {NAMED}"),
    ("03_retrieval", {"runs": ["a", "a"]}, "runs is .*'a' stands twice"),
    ("03_retrieval", {"runs": "seed17"}, r'to papermill as -y "runs: \[seed17\]"'),
    ("03_retrieval", {"runs": [LONG]}, f"runs is .*{NAMED}"),
    ("03_retrieval", {"benchmarks": ["primer"]}, "it is a manifest of data_manifests/sources"),
    ("03_retrieval", {"merge_weight": 1.5}, r"merge_weight is 1\.5"),
    ("03_retrieval", {"merge_weight": math.nan}, "merge_weight is nan"),
    ("03_retrieval", {"seed": -1}, "seed is -1"),
    ("04_mteb", {"runs": ["a", "a"]}, "'a' stands twice"),
    ("04_mteb", {"tasks": []}, "tasks is .*at least 1 item"),
    ("04_mteb", {"tasks": ["SciFact", "SciFact"]}, "'SciFact' stands twice"),
    ("04_mteb", {"tasks": ["../SciFact"]}, NAMED),
    ("04_mteb", {"largest": -1}, "largest is -1"),
    ("04_mteb", {"largest": 10**15}, "less than or equal to 1000000000"),
    ("04_mteb", {"curves": ["a..b"]}, rf"curves is 'a\.\.b'; {NAMED}"),
    ("05_mimic", {"textbook": LONG}, f"textbook is .*{NAMED}"),
    ("05_mimic", {"runs": ["a", "a"]}, "'a' stands twice"),
    ("05_mimic", {"models": ["bge", "bge"]}, "'bge' stands twice"),
    ("05_mimic", {"service": "ftp://a"}, "service is 'ftp://a'; wanted an address, http://"),
    ("05_mimic", {"service": "http://a"}, "service is 'http://a', service_model ''; wanted both or neither"),
    ("05_mimic", {"service_model": "a b"}, "service_model is 'a b'; wanted letters"),
    ("05_mimic", {"service_key": "A-B"}, "service_key is not shown here; wanted the name of an environment"),
    ("01_queries", {"service_key": "sk_live_4eC39"}, "service_key is not shown here; wanted the name of an"),
    ("05_mimic", {"max_length": 10**9}, "less than or equal to 131072"),
    ("05_mimic", {"codes": 10**6}, "less than or equal to 20000"),
    ("05_mimic", {"sampled": 9}, "sampled is 9"),
    ("05_mimic", {"sampled": 10**9}, "less than or equal to 1000000"),
    ("05_mimic", {"draws": 10**9}, "less than or equal to 100000"),
    ("05_mimic", {"seed": 2**70}, "seed is 1180591620717411303424"),
    ("06_report", {"profile": LONG}, f"profile is .*{NAMED}"),
    ("06_report", {"seed": 17}, "no parameter 'seed'"),
]
GRID = "grids: {g: {vary: {lora_rank: %s, seed: %s, epochs: %s}}}"
NO_MAPPING = "wanted a mapping, lines of `name: value`"
PROFILES = [
    ("[01_corpus, 02_train]", NO_MAPPING),
    ("01_corpus: {seed: 1, seed: 2}", "line 1: 'seed' stands twice"),
    ("embedded: {01_corpus: {seed: 1}}", "'embedded' is no notebook; known: 01_corpus"),
    ("17: {seed: 1}", "'17' is no notebook"),
    ("01_corpus: [1]", rf"01_corpus is \[1\]; {NO_MAPPING}"),
    ("01_corpus: {profile: open}", "01_corpus sets 'profile', which follows from where it stands; take it out"),
    ("01_corpus: {sources: {primer: 1}}", r"01_corpus: sources is \{'primer': 1\}.*valid list"),
    ("01_corpus: {seed: -1}", "01_corpus: seed is -1"),
    ("02_train: [a]", rf"02_train is \['a'\]; {NO_MAPPING}"),
    ("02_train: {a: 5}", f"02_train: a is 5; {NO_MAPPING}"),
    ("02_train: {a: {profile: open}}", "02_train: a sets 'profile'"),
    ("02_train: {a: {run: b}}", "02_train: a sets 'run'"),
    ("02_train: {a: {grid: g}}", "02_train: a sets 'grid'"),
    ("02_train: {17: {}}", "02_train: run is 17; input should be a valid string"),
    (f"02_train: {{{LONG}: {{}}}}", f"02_train: run is .*{NAMED}"),
    ("02_train: {a: {loss: triplet}}", "02_train: loss 'triplet' wants negatives"),
    ("03_retrieval: {runs: [seed17]}", "03_retrieval: 02_train has no run 'seed17'; known: none"),
    (
        "02_train: {seed17: {}}\n04_mteb: {runs: [seed71]}",
        "04_mteb: 02_train has no run 'seed71'; did you mean 'seed17'",
    ),
    ("02_train: {seed17: {}}\n04_mteb: {curves: [seed71]}", "04_mteb: 02_train has no run 'seed71'"),
    ("02_train: {a: {}}\n05_mimic: {textbook: b}", "05_mimic: 02_train has no run 'b'; known: a"),
    ("05_mimic: {runs: [b]}", "05_mimic: 02_train has no run 'b'"),
    ("03_retrieval: {benchmarks: [medquad]}", "03_retrieval: 01_corpus has no benchmark 'medquad'; known: none"),
    ("02_train: {seed17: {}}\nadapters: {a: seed71}", "adapters: 02_train has no run 'seed71'; did you mean 'seed17'"),
    (
        "02_train: {a: {pairs: [temporal]}}\nadapters: {b: a}",
        "adapters: run 'a' learnt from clinical notes, wanted none",
    ),
    ("02_train: {a: {}}\nadapters: {../b: a}", rf"adapters: \.\./b: a; wanted folder and run, each of {NAMED[7:]}"),
    ("02_train: {a: {}}\nadapters: {b: [a]}", "adapters: b: .*; wanted folder and run"),
    ("adapters: [a]", rf"adapters is \['a'\]; {NO_MAPPING}"),
    ("kernel: 5", f"kernel is 5; {NO_MAPPING}"),
    ("kernel: {02_trian: gpu}", "'02_trian' is no notebook; did you mean '02_train'"),
    ("kernel: {default: 5}", "kernel is {'default': 5}; wanted the names of Jupyter kernels"),
    ("grids: [g]", rf"grids is \['g'\]; {NO_MAPPING}"),
    ("grids: {g: {vary: {seed: 17}}}", "grid 'g' needs `vary`"),
    ("grids: {g: {vary: {seed: [17, 17]}}}", "grid 'g' varies seed: 17 stands twice"),
    ("grids: {g: {vary: {seed: []}}}", "grid 'g' needs `vary`"),
    ("grids: {g: {vary: {run: [a, b]}}}", "grid g sets 'run'"),
    ("grids: {g: {vary: {seed: [1]}, fixed: 5}}", f"grid g is 5; {NO_MAPPING}"),
    ("grids: {g: {vary: {pairs: [[definition]]}}}", f"02_train: run is .*{NAMED}"),
    (GRID % ((list(range(1, 101)),) * 3), "grid 'g' makes it 1,000,000 cells, wanted at most 1,000; vary less"),
    ("02_train: {g-1: {}}\ngrids: {g: {vary: {seed: [1]}}}", "run 'g-1' is in 02_train and a cell of a grid"),
]


@pytest.mark.parametrize(("stem", "given", "said"), REFUSED)
def test_a_parameter_that_cannot_work_is_refused_in_a_sentence(stem, given, said):
    with pytest.raises(ValueError, match=rf"^{stem}(: | has ).*?({said})") as caught:
        settings.check(stem, given)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_many_faults_are_still_a_sentence():
    with pytest.raises(ValueError) as caught:
        settings.check("02_train", {"pairs": ["x"] * 1000, "merge_weights": [2.0] * 1000})
    assert str(caught.value).count("; ") < 12


@pytest.mark.parametrize(("text", "said"), PROFILES)
def test_a_profile_that_cannot_work_is_refused_with_its_file(tmp_path, monkeypatch, text, said):
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"^mine\.yaml\b.*({said})") as caught:
        settings.profile("mine")
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["opne", LONG, "../profiles/open", ""])
def test_a_profile_that_is_not_there_is_refused(name):
    with pytest.raises(FileNotFoundError, match=f"no profile '{name}'"):
        settings.profile(name)


def test_a_profile_of_nothing_is_the_notebooks_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    found = settings.profile("mine")
    assert found.runs == {} and set(found.notebooks) == set(settings.NOTEBOOKS) - {"02_train"}


@pytest.mark.parametrize(
    ("stem", "given"),
    [
        ("01_notes", {"source": "mimic3", "patients": 46_520, "split": [0.98, 0.01, 0.01]}),
        ("01_corpus", {"sources": ["not_yet_written"], "seed": 2**32 - 1}),
        ("02_train", {"run": "a" * 100, "base": "Qwen3-Embedding-8B", "max_length": 32_768, "token_budget": 2**20}),
        ("02_train", {"loss": "triplet", "negatives": "mined", "batch_size": 4096, "keep_weight": 15}),
        ("02_train", {"pairs": ["temporal"], "negatives": "random_distant", "eval_every": 100_000}),
        ("05_mimic", {"service": "http://localhost:8000/v1", "service_model": "far-1.5", "codes": 6984}),
    ],
)
def test_an_eight_billion_model_and_a_whole_mimic_are_within_bounds(stem, given):
    assert given.items() <= settings.check(stem, given).model_dump().items()
