"""Which pairs of views pretraining pulls together, as validated parameters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator


class PositivesConfig(BaseModel):
    """The second view of a positive pair.

    ``augment``: another view of the same synapse, as published by SynapseCLR. ``same_neurite``: with a probability, a
    view of another synapse of the same neurite, after SegCLR (Dorkenwald et al. 2023, doi:10.1038/s41592-023-02059-8),
    which pairs places of one cell. Where no partner is allowed, the second view is the synapse's own.

    The kind alone may be given instead of the mapping: ``positives: same_neurite``. A parameter of ``same_neurite``
    must be left at its default under ``augment``, where it is not dumped either: a digest of the dump depends on what
    acts on the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["augment", "same_neurite"] = Field("augment", description="Where the second view comes from.")
    neurite: Literal["pre", "post", "both"] = Field(
        "both", description="Partners share the presynaptic root, the postsynaptic root, or either of them."
    )
    probability: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Of a partner in place of the own second view. At 1, what differs within a neurite is unlearned.",
    )
    max_distance_um: float | None = Field(
        None, gt=0, description="Partners' centres are at most this far apart, in a straight line; null: no limit."
    )
    pair_annotated_neurites: bool = Field(
        False,
        description="Pair synapses of neurites with annotations, too. Scores on these annotations then are no longer "
        "scores on unknown neurites.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _no_foreign_parameter(self) -> PositivesConfig:
        for name, field in type(self).model_fields.items():
            if name != "kind" and self.kind == "augment" and getattr(self, name) != field.default:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but positives of kind 'augment' have no such parameter. Leave "
                    f"{name} out, or set kind: same_neurite."
                )
        return self

    @model_serializer(mode="wrap")
    def _without_foreign_parameters(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key == "kind" or self.kind == "same_neurite"}
