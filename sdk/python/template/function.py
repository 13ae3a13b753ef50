"""A function that greets."""

from urllib.parse import parse_qs

from tidegate.function import Request, Response


def handle(request: Request) -> Response:
    if request.path != "/greet":
        return text(404, f"there is no {request.path}\n")
    name = parse_qs(request.query).get("name", ["world"])[0]
    return text(200, f"Hello, {name}!\n")


def text(status: int, content: str) -> Response:
    return Response(status, [("content-type", "text/plain")], content.encode())
