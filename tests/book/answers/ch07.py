"""Classic wrong answers to the exercises of chapter 07. The solutions are taken from the notebook."""

from __future__ import annotations


def _not_divided(loss_of, parts, weight):
    weight.grad = None
    for part in parts:
        loss_of(part).backward()


def _old_gradient(loss_of, parts, weight):
    for part in parts:
        (loss_of(part) / len(parts)).backward()


def _only_the_last(loss_of, parts, weight):
    for part in parts:
        weight.grad = None
        (loss_of(part) / len(parts)).backward()


def _nothing(loss_of, parts, weight):
    weight.grad = None


def _no_one_dimensional_rule(model):
    return {name for name, p in model.named_parameters() if name.endswith("bias")}


def _tokens_too(model):
    return {n for n, p in model.named_parameters() if p.requires_grad and (p.dim() <= 1 or n.endswith("_token"))}


def _frozen_too(model):
    return {n for n, p in model.named_parameters() if p.dim() <= 1 or not p.requires_grad}


def _the_others(model):
    return {n for n, p in model.named_parameters() if p.requires_grad and p.dim() == 2}


def _in_place(path, write):
    with open(path, "wb") as file:
        write(file)


def _leaves_a_half(path, write):
    temporary = path.with_name("other")
    with open(temporary, "wb") as file:
        write(file)
    temporary.replace(path)


def _swallows(path, write):
    temporary = path.with_name("other")
    try:
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(path)
    except OSError:
        temporary.unlink()


def _removes_first(path, write):
    path.unlink(missing_ok=True)
    _leaves_a_half(path, write)


ANSWERS = {
    "ch07_peak_lr": {
        "wrong": {
            "one forward pass only": (lambda base, b, a, p: base * b / 256, "all its images"),
            "forgets accumulation": (lambda base, b, a, p: base * b * p / 256, "accumulated"),
            "forgets the processes": (lambda base, b, a, p: base * b * a / 256, "processes"),
            "forgets 256": (lambda base, b, a, p: base * b * a * p, "256"),
        }
    },
    "ch07_exempt_names": {
        "wrong": {
            "goes by the name": (_no_one_dimensional_rule, "norms"),
            "tokens too": (_tokens_too, "three axes"),
            "the frozen too": (_frozen_too, "frozen"),
            "the others": (_the_others, "matrices do decay"),
        }
    },
    "ch07_accumulate": {
        "wrong": {
            "not divided": (_not_divided, "divide"),
            "old gradient kept": (_old_gradient, "before is still in it"),
            "only the last part": (_only_the_last, "only the last part"),
            "no backward": (_nothing, "backward"),
        }
    },
    "ch07_careful_save": {
        "wrong": {
            "writes in place": (_in_place, "old file was destroyed"),
            "leaves half a file": (_leaves_a_half, "left behind"),
            "swallows the failure": (_swallows, "unnoticed"),
            "removes the old one first": (_removes_first, "no file at all"),
        }
    },
}
