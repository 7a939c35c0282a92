"""How far an agent may go, and how its text is drawn."""

from pydantic import Field

from tinyslm.core.config import Section
from tinyslm.inference.settings import SamplingSettings


class AgentLimits(Section):
    """How far an agent may go."""

    max_steps: int = Field(default=8, gt=0, description="Steps of the model; the last one must be an answer.")
    tool_timeout: float = Field(default=30.0, gt=0, description="Seconds that a tool may take.")
    time_limit: float | None = Field(default=None, gt=0, description="Seconds that the whole run may take.")
    parallel: bool = Field(default=True, description="Let the model make several calls in one step.")
    call_first: bool = Field(
        default=False, description="Make the first step a call: small models seldom think of one themselves."
    )
    result_tokens: int | None = Field(
        default=None,
        gt=0,
        description="Longest result of a tool that the model gets to read; a quarter of the context.",
    )


class AgentSampling(SamplingSettings):
    """As for other texts, but greedy: an agent is to be right rather than varied."""

    max_tokens: int = Field(default=512, gt=0, description="Most tokens to generate in each step.")
    temperature: float = Field(default=0.0, ge=0, description="Divides the logits; 0: always the likeliest token.")
