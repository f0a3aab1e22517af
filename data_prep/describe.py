"""Part descriptions made by a BLIP-2 model that the user has: eleven questions an image, four sentences
(VLADR, stage 0)."""

from pathlib import Path

from data_prep.pictures import opened
from data_prep.public.descriptions import read_descriptions, write_descriptions

# what is asked -> in which words; the words are ours, the published ones belong to their authors
QUESTIONS = {
    "gender": "Is this person a man or a woman?",
    "hair colour": "What colour is this person's hair?",
    "hair length": "Is this person's hair long or short?",
    "accessory": "What does this person wear on the head?",
    "upper colour": "What colour are this person's upper clothes?",
    "upper": "Which upper garment does this person wear?",
    "activity": "What is this person doing?",
    "lower colour": "What colour are this person's lower clothes?",
    "lower": "Which lower garment does this person wear?",
    "shoe colour": "What colour are this person's shoes?",
    "shoes": "Which kind of shoes does this person wear?",
}
DECODING = {
    "num_beams": 2,
    "do_sample": False,
    "max_new_tokens": 8,  # answers are a few words
    "min_length": 1,
    "repetition_penalty": 1.5,
}
EVERY = 200  # images between two writes: at most so many are asked again after an interruption


def describe(manifest, weights, out, device="cpu", answer=None, log=print):
    """Describe every training image (first spectrum) and write the file `out`; images in it already are not
    asked again. `answer` is (image, question) -> words; a BLIP-2 model from the folder `weights` unless told.
    """
    answer = answer or blip(weights, device)
    rows = manifest.split("train")
    first = rows[rows.modality == rows.modality.iloc[0]]
    paths = dict(zip(first.path, first.tile))  # each once, in the order of the table
    described = {}
    if Path(out).exists():
        described = read_descriptions(out)
    left = [path for path in paths if Path(path).name not in described]  # an interrupted run goes on
    for number, path in enumerate(left, 1):
        described[Path(path).name] = parts_of(opened(manifest.root / path, paths[path]), answer)
        if number % EVERY == 0 or number == len(left):
            write_descriptions(out, described)
            log(f"{manifest.name}: {number} of {len(left)} images described")
    return described


def parts_of(image, answer):
    """Head, upper, lower and foot of one image."""
    said = {}
    for name, question in QUESTIONS.items():
        said[name] = answer(image, question).strip().lower()  # it becomes the middle of a sentence
    return sentences(said)


def sentences(said):
    """Four sentences from eleven answers, put together as the published files are."""
    return (
        f"A {said['gender']} with {said['hair colour']}, {said['hair length']} hair, wearing "
        f"{said['accessory']}.",
        f"Wearing {said['upper colour']} {said['upper']}, {said['activity']}",
        f"Wearing {said['lower colour']} {said['lower']}",
        f"Wearing {said['shoe colour']} {said['shoes']}",
    )


def blip(weights, device):
    """(image, question) -> answer of a BLIP-2 model that lies in a folder; nothing is downloaded. ValueError
    without the package transformers or the model."""
    try:  # here: no other command needs the package, which the project does not install
        from transformers import Blip2ForConditionalGeneration, Blip2Processor
    except ImportError:
        raise ValueError(
            "expected the package transformers, found none; install it with pip install transformers, or "
            "use the descriptions that come with the world."
        ) from None
    if not (Path(weights) / "config.json").exists():
        raise ValueError(
            f"expected a BLIP-2 model of transformers in {weights}, found no config.json; pass the folder "
            "that holds config.json and the weights."
        )
    processor = Blip2Processor.from_pretrained(weights, local_files_only=True)
    model = Blip2ForConditionalGeneration.from_pretrained(weights, local_files_only=True).to(device).eval()

    def answer(image, question):
        prompt = f"Question: {question} Answer:"  # the form that BLIP-2 was trained to answer
        asked = processor(images=image, text=prompt, return_tensors="pt").to(device)
        said = model.generate(**asked, **DECODING)[0].tolist()  # (1, tokens) -> tokens
        tokens = continuation(said, asked["input_ids"][0].tolist())
        return processor.decode(tokens, skip_special_tokens=True)

    return answer


def continuation(said, asked):
    """The tokens that were generated: some versions of transformers repeat the question in front of them."""
    if said[: len(asked)] == asked:
        return said[len(asked) :]
    return said
