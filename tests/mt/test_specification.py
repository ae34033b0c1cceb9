from pathlib import Path
from typing import Any

import pytest

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.languages import language
from xlst_ray.mt.llm_options import PromptOptions
from xlst_ray.mt.pairs import PairsOptions
from xlst_ray.mt.specification import Glossary, SamplingOptions, Specification
from xlst_ray.mt.templates import PRESETS


def specify(source: str = "en", target: str = "fi", **prompt: Any) -> Specification:
    return PromptOptions(**prompt).specify(SamplingOptions(), 2.0, 16, source, target)


def pairs(path: Path, *rows: tuple[str, str]) -> dict[str, PairsOptions]:
    lines = ["en\tfi", *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {path.stem: PairsOptions(kind="tsv", path=str(path))}


def template(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_presets_are_the_prompts_that_the_models_cards_document() -> None:
    tower = specify("pt", "en", preset="tower").prompt("Um grupo de investigadores.")
    assert tower == [
        {
            "role": "user",
            "content": "Translate the following text from Portuguese into English.\n"
            "Portuguese: Um grupo de investigadores.\nEnglish:",
        }
    ]
    eurollm = specify("en", "pt", preset="eurollm").prompt("I am a language model for european languages.")
    assert eurollm[0]["content"] == (  # type: ignore[index]
        "Translate the following English source text to Portuguese:\n"
        "English: I am a language model for european languages. \nPortuguese: "
    )
    gemma = specify("cs", "de", preset="translategemma").prompt("Dobrý den.")
    assert gemma == (
        "<start_of_turn>user\nYou are a professional Czech (cs) to German (de) translator. Your goal is to accurately"
        " convey the meaning and nuances of the original Czech text while adhering to German grammar, vocabulary, and"
        " cultural sensitivities.\nProduce only the German translation, without any additional explanations or"
        " commentary. Please translate the following Czech text into German:\n\n\nDobrý den.<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    assert specify(preset="trained-lm").prompt("a <sep> b</s>") == "a b<sep>"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_holds_the_sentence_once_and_no_placeholder(preset: str) -> None:
    prompt = specify("en", "de", preset=preset).prompt("Xyzzy {glossary} {source}!")
    whole = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    assert whole.count("Xyzzy {glossary} {source}!") == 1
    assert whole.count("{") == 2


def test_examples_are_earlier_turns_of_a_chat_and_the_same_for_every_sentence(tmp_path: Path) -> None:
    rows = [(f"sentence {number}", f"lause {number}") for number in range(9)]
    made = specify(shots=2, examples=pairs(tmp_path / "a.tsv", *rows))
    first, second = made.prompt("one"), made.prompt("two")
    assert [message["role"] for message in first if isinstance(message, dict)] == [
        "system", "user", "assistant", "user", "assistant", "user"
    ]  # fmt: skip
    assert first[:-1] == second[:-1]
    assert first[2]["content"] in {target for _, target in rows}  # type: ignore[index]
    with pytest.raises(DataError, match="has 9 pairs en-fi, and shots is 10"):
        specify(shots=10, examples=pairs(tmp_path / "a.tsv", *rows))
    with pytest.raises(ConfigError, match="has no place for examples"):
        specify(preset="translategemma", shots=2, examples=pairs(tmp_path / "a.tsv", *rows))


def test_a_glossary_gives_the_terms_that_a_sentence_has(tmp_path: Path) -> None:
    terms = pairs(tmp_path / "g.tsv", ("cat", "kissa"), ("steering wheel", "ratti"), ("wheel", "pyörä"))
    made = specify(glossary=terms)
    asked = made.prompt("The Steering  wheel, a CAT and concatenation")[-1]["content"]  # type: ignore[index]
    assert asked.startswith("Use these translations: steering wheel = ratti; cat = kissa.\nTranslate this")
    assert "Use these" not in made.prompt("Nothing known")[-1]["content"]  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"has no \{glossary\}"):
        specify(preset="trained-lm", glossary=terms)


def test_terms_of_a_language_without_spaces_stand_anywhere() -> None:
    glossary = Glossary([("猫", "cat"), ("子猫", "kitten"), ("犬", "dog")], spaces=False)
    assert glossary.find("犬と子猫が寝ている") == [("犬", "dog"), ("子猫", "kitten")]


def test_a_template_of_the_users_own(tmp_path: Path) -> None:
    file = template(
        tmp_path / "t.yaml",
        'form: text\nuser: "{examples}{source_code}: {source}\\n{target_code}:"\n'
        'example: "{source_code}: {source}\\n{target_code}: {target}\\n\\n"\nstop: ["\\n"]\n',
    )
    examples = pairs(tmp_path / "a.tsv", ("yes", "kyllä"), ("no", "ei"))
    made = specify(template=file, shots=2, examples=examples)
    prompt = made.prompt("Hello {source}")
    assert isinstance(prompt, str)
    assert prompt.endswith("en: Hello {source}\nfi:")
    assert "en: yes\nfi: kyllä\n\n" in prompt
    assert made.template.stop == ("\n",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user: 'Translate it'", r"user needs the placeholder \{source\}"),
        ("user: '{sorce}'", r"unknown placeholder \{sorce\}, did you mean \{source\}"),
        ("user: '{source}'\nexample: '{source}'", r"example needs the placeholder \{target\}"),
        ("user: '{source} {examples}'", "in a chat they are earlier turns"),
        ("form: text\nuser: '{source}'\nsystem: hello", "system is for the form chat"),
        ("usr: '{source}'", r"unknown key usr(.|\n)*did you mean user"),
        ("- user", "must be a mapping"),
        ("user: [", "is not YAML"),
    ],
)
def test_wrong_templates_are_refused_with_the_file_and_the_place(tmp_path: Path, text: str, message: str) -> None:
    file = template(tmp_path / "mine.yaml", text)
    with pytest.raises(ConfigError, match=message) as refusal:
        specify(template=file)
    assert "mine.yaml" in str(refusal.value)
    with pytest.raises(DataError, match="no such file"):
        specify(template=str(tmp_path / "absent.yaml"))


def test_languages_that_a_family_lacks_are_refused_with_those_near() -> None:
    with pytest.raises(ConfigError, match=r"tower does not speak Norwegian \(no\)(.|\n)*it speaks en, de, fr, .*nl"):
        specify("en", "no", preset="tower")
    with pytest.raises(ConfigError, match=r"eurollm does not speak Icelandic \(is\)(.|\n)*it speaks .*and 30 others"):
        specify("en", "is", preset="eurollm")
    specify("en", "zh-TW", preset="tower")  # a region of a language that it speaks


@pytest.mark.parametrize(("code", "near"), [("fin", r"near it is fi \(Finnish\)"), ("kaa", r"ka \(Georgian\)")])
def test_a_language_that_cannot_be_named_is_refused_unless_the_template_names_it(
    tmp_path: Path, code: str, near: str
) -> None:
    for preset in ("general", "trained-lm"):
        for pair in (("en", code), (code, "en")):
            if preset == "trained-lm":  # it names none
                assert specify(*pair, preset=preset).prompt("Yes.") == "Yes.<sep>"
            else:
                with pytest.raises(ConfigError, match=rf"what to call the language {code}(.|\n)*{near}"):
                    specify(*pair, preset=preset)
    file = template(tmp_path / "mine.yaml", 'user: "{source_language} into Karakalpak: {source}"')
    specify("en", code, template=file)
    with pytest.raises(ConfigError, match="what to call"):
        specify(code, "en", template=file)


def test_the_limit_grows_with_the_sentence() -> None:
    made = specify()
    assert [made.max_tokens("a" * length) for length in (0, 1, 10)] == [16, 18, 36]


def test_answers_are_read_by_the_languages_names() -> None:
    assert specify().read("Hello.", "Finnish: Hei.").text == "Hei."
    assert language("fi").name == "Finnish"


def test_the_fingerprint_follows_everything_that_is_asked(tmp_path: Path) -> None:
    examples = pairs(tmp_path / "a.tsv", ("yes", "kyllä"), ("no", "ei"))
    seen = {
        specify().fingerprint(),
        specify("en", "et").fingerprint(),
        specify(preset="eurollm").fingerprint(),
        specify(shots=1, examples=examples).fingerprint(),
        specify(shots=2, examples=examples).fingerprint(),
        specify(glossary=examples).fingerprint(),
        specify(chat_template_kwargs={"enable_thinking": False}).fingerprint(),
        PromptOptions().specify(SamplingOptions(temperature=0.5), 2.0, 16, "en", "fi").fingerprint(),
        PromptOptions().specify(SamplingOptions(), 2.5, 16, "en", "fi").fingerprint(),
    }
    assert len(seen) == 9
    assert specify(glossary=examples).fingerprint() == specify(glossary=examples).fingerprint()
