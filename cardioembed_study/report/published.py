"""Which published numbers do pages quote in their sentences? Those of the ledger, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping

from cardioembed_study.claims import arithmetic, checks
from cardioembed_study.claims.ledger import Claim


def numbers(ledger: Mapping[str, Claim]) -> dict[str, str]:
    """Return the numbers, as text, by the name under which pages ask for them.

    Args:
        ledger: of claims.
    """
    value = {key: claim.value for key, claim in ledger.items()}
    first = [v for key, v in value.items() if key.startswith("mimic.recall.") and key.endswith(".top1_recall")]
    pairs, patients = value["mimic.subset.pairs"], value["mimic.subset.patients_with_pairs"]
    weight, batch, total = (
        value[f"mimic.{key}"] for key in ("loss.chapter_weight", "train.batch_size", "loss.chapters")
    )
    held = checks.ICD9_CHAPTERS_HELD
    floors = [arithmetic.entropy_floor(chapters, int(batch), weight, int(total)) for chapters in held]
    quoted = {
        "gain_text": f"{value['cardioembed.gain_over_base_text']:.2f}",
        "gain": f"{value['cardioembed.gain_over_base']:.2f}",
        "test": f"{value['cardioembed.test_triplets']:,.0f}",
        "recall_10": f"{value['mimic.recall.hierarchical.top10_recall']:.0f}",
        "heldout_infonce": f"{value['mimic.readme_heldout.InfoNCE.top10_recall']:.1f}",
        "heldout_hierarchical": f"{value['mimic.readme_heldout.hierarchical.top10_recall']:.1f}",
        "auroc": f"{value['mimic.auroc.hierarchical.macro_auroc']:.3f}",
        "codes": f"{value['mimic.auroc_setup.codes']:.0f}",
        "pairs": f"{pairs:,.0f}",
        "patients": f"{patients:,.0f}",
        "ceiling": f"{100 * patients / pairs:.1f}",
        "recall_1_lowest": f"{min(first):.2f}",
        "recall_1_highest": f"{max(first):.2f}",
        "batch": f"{batch:.0f}",
        "chapters_fewest": f"{min(held):g}",
        "chapters_most": f"{max(held):g}",
        "floor_lowest": f"{min(floors):.1f}",
        "floor_highest": f"{max(floors):.1f}",
        "loss_last": f"{value['mimic.epoch_loss.epoch-10.training_loss']:.3f}",
        "epochs_hierarchical": f"{value['mimic.train.hierarchical_epochs']:.0f}",
        "epochs_infonce": f"{value['mimic.train.infonce_epochs']:.0f}",
    }
    return {f"published_{name}": text for name, text in quoted.items()}
