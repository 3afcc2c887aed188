from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from shared_eval.join import ALL_METRICS, join, other_papers
from shared_eval.papers import paper_results
from shared_eval.plot import svg
from shared_eval.record import Extracted, Invocation, Problem
from shared_eval.report import POLICY, html

VOID = {"meta", "br", "circle", "line", "polygon"}
HOSTILE = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """Elements, attributes and texts; a tag that is not closed is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(results, invocations=()) -> str:
    every = join(results, paper_results(), metrics=[ALL_METRICS])
    others = other_papers(every, paper_results())
    return html(join(results, paper_results()), every, others, results, invocations)


def invocation(text: str) -> Invocation:
    extracted = Extracted(
        method="gdt_stica",
        title=f"GDT {text}",
        framework="torch",
        arxiv=("2003.04298",),
        label="gdt_K400",
        licence="CC-BY-NC 4.0",
        modality="rgb",
        views=(10, 3),
        clip={},
        feature_size=512,
        fingerprint="f" * 64,
        folder="x",
        videos=6766,
        bad=2,
        no_sound=1,
        versions={"python": "3.11"},
    )
    return Invocation(
        command=("python", "-m", "shared_eval", "run", "--data", f"videos {text}"),
        data="videos",
        dataset="hmdb51",
        videos=6766,
        classes=51,
        splits={"1": (3570, 1530)},
        protocols=("common-svm/1@10x3",),
        extracted=(extracted,),
        problems=(Problem("vicc@rgb-cross", "extract", f"no weights {text}"),),
    )


@pytest.fixture
def results(make_result) -> list:
    gdt = {"method": "gdt_stica", "weights": "gdt_K400"}
    split = {"protocol": "common-retrieval/1@10x3"}
    return [
        *(make_result(0.5 + 0.01 * s, split=str(s), **gdt) for s in (1, 2, 3)),
        make_result(0.7, metric="recall@1", **gdt, **split),
        make_result(0.8, metric="recall@5", **gdt, **split),
        make_result(0.2, method="gdt_stica", weights="random"),
    ]


def test_everything_is_on_the_page(results) -> None:
    text = " ".join(Page(page(results, [invocation("")])).text)
    for wanted in (
        "Methods compared on hmdb51",
        "51.0 [41.0, 61.0]",
        "random (untrained)",
        "paper: gdt-finetune",
        "recall@5 in %",
        "GDT  (torch, arXiv 2003.04298)",
        "CC-BY-NC 4.0",
        "Features made with python 3.11",
        "6766 videos, 51 classes; split 1: 3570 training, 1530 test",
        "squared hinge",
        "vicc@rgb-cross",
        "no weights",
        "95 % interval",
        "python -m shared_eval run --data",
        results[0].provenance.digest[:16],
        "columns swapped in the README (printed 94.1 under HMDB51)",
    ):
        assert wanted in text, wanted


def test_nothing_is_loaded_or_run(results) -> None:
    shown = page(results, [invocation("")])
    found = Page(shown)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not {"src", "href", "srcset", "style"} & names
    assert not [name for name in names if name.startswith("on")]
    assert ("content", POLICY) in found.attributes
    style = shown.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert set(re.findall(r"https?://[^\"' <]+", shown)) == {"http://www.w3.org/2000/svg"}


def test_all_text_is_escaped(make_result) -> None:
    result = make_result(method=HOSTILE, weights=HOSTILE, dataset=HOSTILE, protocol=HOSTILE)
    other = replace(result, key=replace(result.key, metric=HOSTILE, split=HOSTILE))
    shown = page([result, other], [invocation(HOSTILE)])
    assert "script" not in Page(shown).tags
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") > 20


def test_equal_results_give_equal_bytes(results) -> None:
    invocations = [invocation("")]
    assert page(results, invocations) == page(list(results), list(invocations))
    assert page(results) != page(results[:-1])


def test_a_page_without_results_says_so() -> None:
    text = " ".join(Page(page([], [invocation("")])).text)
    assert "There are no results." in text
    assert "Not done" in text


def test_the_picture_shows_every_number(results) -> None:
    block = join(results, paper_results())[0]
    root = ElementTree.fromstring(svg(block))
    name = "{http://www.w3.org/2000/svg}"
    tips = [element.text for element in root.iter(f"{name}title")]
    assert tips == [
        "split 1: 20.0 [10.0, 30.0]",
        "split 1: 51.0 [41.0, 61.0]",
        "split 2: 52.0 [42.0, 62.0]",
        "split 3: 53.0 [43.0, 63.0]",
        "mean: 52.0",
        "paper: gdt-finetune, split not stated: 62.3",
    ]
    groups = list(root.iter(f"{name}g"))
    assert [group.get("class") for group in groups] == ["untrained", "trained"]
    dots = {c.findtext(f"{name}title"): float(c.get("cx")) for c in root.iter(f"{name}circle")}
    zero, whole = (t.get("x") for t in root.iter(f"{name}text") if t.text in ("0 %", "100 %"))
    at = float(zero) + 0.51 * (float(whole) - float(zero))
    assert dots["split 1: 51.0 [41.0, 61.0]"] == pytest.approx(at, abs=0.06)
