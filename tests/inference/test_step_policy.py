"""What the next step of a tool-call loop may do."""

from tinyslm.inference.tools.policy import MAX_REPEATS, StepPolicy
from tinyslm.inference.tools.running import Call


def call(name, **arguments):
    return Call("", name, arguments)


def test_the_last_step_must_be_an_answer():
    policy = StepPolicy(3)
    assert [policy.advance() for _ in range(3)] == ["auto", "auto", "none"]
    assert policy.forced == "steps"
    assert StepPolicy(1).advance() == "none"


def test_the_first_step_may_have_to_be_a_call():
    policy = StepPolicy(3, call_first=True)
    assert [policy.advance() for _ in range(3)] == ["required", "auto", "none"]
    assert StepPolicy(1, call_first=True).advance() == "none"


def test_calls_like_those_just_made_are_seen():
    policy = StepPolicy(9)
    assert policy.repeated([call("a", x=1, y=2), call("b"), call("b")]) == [False, False, True]
    assert policy.repeated([call("a", y=2, x=1), call("a", x=1, y=3)]) == [True, False]
    assert policy.repeated([call("b")]) == [False], "other calls came in between"


def test_steps_that_only_repeat_lead_to_an_answer():
    policy = StepPolicy(9)
    policy.advance()
    policy.repeated([call("a")])
    for _ in range(MAX_REPEATS):
        assert policy.advance() == "auto"
        assert policy.repeated([call("a")]) == [True]
    assert policy.advance() == "none"
    assert policy.forced == "repeats"


def test_a_new_call_ends_the_repeating():
    policy = StepPolicy(99)
    for name in "aabbaabb":
        policy.repeated([call(name)])
        assert policy.advance() == "auto"
