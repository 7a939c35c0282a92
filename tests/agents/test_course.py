"""What an agent's next step may do."""

from tinyslm.agents.course import MOST_REPEATS, Course
from tinyslm.agents.running import Call


def call(name, **arguments):
    return Call("", name, arguments)


def test_the_last_step_must_be_an_answer():
    course = Course(3)
    assert [course.advance() for _ in range(3)] == ["auto", "auto", "none"]
    assert course.forced == "steps"
    assert Course(1).advance() == "none"


def test_the_first_step_may_have_to_be_a_call():
    course = Course(3, call_first=True)
    assert [course.advance() for _ in range(3)] == ["required", "auto", "none"]
    assert Course(1, call_first=True).advance() == "none"


def test_calls_like_those_just_made_are_seen():
    course = Course(9)
    assert course.repeated([call("a", x=1, y=2), call("b"), call("b")]) == [False, False, True]
    assert course.repeated([call("a", y=2, x=1), call("a", x=1, y=3)]) == [True, False]
    assert course.repeated([call("b")]) == [False], "other calls came in between"


def test_steps_that_only_repeat_lead_to_an_answer():
    course = Course(9)
    course.advance()
    course.repeated([call("a")])
    for _ in range(MOST_REPEATS):
        assert course.advance() == "auto"
        assert course.repeated([call("a")]) == [True]
    assert course.advance() == "none"
    assert course.forced == "repeats"


def test_a_new_call_ends_the_repeating():
    course = Course(99)
    for name in "aabbaabb":
        course.repeated([call(name)])
        assert course.advance() == "auto"
