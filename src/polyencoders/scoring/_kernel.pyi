def variants() -> list[str]: ...

class Prepared:
    def __init__(
        self,
        data: int,
        n: int,
        d: int,
        stride: int,
        element: int,
        bytes: int,
        scale: int,
        error: int,
        length: int,
        /,
    ) -> None: ...
    def prepare(self, variant: str, longest: float, threads: int, /) -> int: ...
    def search(
        self,
        variant: str,
        selected: tuple[int, int, int],
        codes: int,
        addends: int,
        queries: int,
        m: int,
        temperature: float,
        k: int,
        threads: int,
        scores: int,
        indices: int,
        /,
    ) -> tuple[int, int]: ...
    def estimate(self, variant: str, vectors: int, queries: int, threads: int, out: int, /) -> None: ...
    def bounds(self, variant: str, codes: int, m: int, temperature: float, /) -> list[float]: ...
