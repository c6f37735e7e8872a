"""The description of the API as a page shows it."""

from typing import Annotated, Literal

from fastapi import FastAPI, Header, Query
from pydantic import BaseModel, Field

from vmr.retrieval.service.pages.reference import Row, Table, operations_of


class Part(BaseModel):
    """One of several."""

    size: float | None = Field(None, gt=0, description="how large.")
    kind: Literal["file"] = "file"


class Whole(BaseModel):
    """All of it."""

    name: str = Field(max_length=9)
    parts: list[Part] = Field(description="what it consists of")
    first: Part


def described():
    """The operations of an application with one route."""
    app = FastAPI()

    @app.post("/{number}/x", tags=["things"])
    def make(
        number: int,
        needed: str,
        body: Whole,
        sort: Literal["up", "down"] = "up",
        k: Annotated[int | None, Query(ge=1, le=5, description="how many")] = 3,
        since: Annotated[str, Header()] = "",
    ) -> list[Part]:
        """Make things.

        Twice.
        """

    ((group, (operation,)),) = operations_of(app.openapi()).items()
    assert group == "things"
    return operation


def test_an_operation_has_a_row_for_each_parameter():
    operation = described()
    assert (operation.method, operation.path) == ("POST", "/{number}/x")
    assert operation.text.split("\n\n") == ["Make things.", "Twice."]
    assert operation.parameters == [
        Row("number", "integer", "part of the path"),
        Row("needed", "string", "required"),
        Row("sort", "`up` or `down`", 'default `"up"`'),
        Row("k", "integer or null", "how many; at least 1, at most 5, default `3`"),
        Row("since", "string", 'header; default `""`'),
    ]


def test_objects_are_tables_with_the_objects_in_them():
    operation = described()
    rows = [
        Row("name", "string", "at most 9 characters"),
        Row("parts", "list of objects", "what it consists of"),
        Row("parts[].size", "number or null", "how large; above 0"),
        Row("parts[].kind", "`file`", ""),
        Row("first", "object", "One of several"),
        Row("first.size", "number or null", "how large; above 0"),
        Row("first.kind", "`file`", ""),
    ]
    assert operation.bodies == [Table("application/json", rows)]
    parts = [Row("[].size", "number or null", "how large; above 0"), Row("[].kind", "`file`", "")]
    assert operation.answers == [Table("200 application/json", parts)]
