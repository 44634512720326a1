"""Driver. The commands and their options; each hands over to a module of its own, imported on use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from harness import __version__
from harness.errors import HarnessError

app = typer.Typer(
    name="hts-compat",
    help="Does this build of our trading program work on a PC that runs this security product with these signatures?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
image_app = typer.Typer(help="Images that guests are made from.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(image_app, name="image")
build_app = typer.Typer(help="Builds of the program under test.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(build_app, name="build")

OutOption = Annotated[Path, typer.Option("--out", help="Folder of reports; the store stands in OUT/store.")]
StoreOption = Annotated[Optional[Path], typer.Option("--store", help="Another store than OUT/store.")]  # noqa: UP045 - typer reads it
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[str, typer.Argument(metavar="[RUN]", help="A run's id, the folder of its report, or 'latest'.")]
ProviderOption = Annotated[str, typer.Option("--provider", help="Where guests come from; auto chooses, and says why.")]
GithubOption = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option("--github/--no-github", help="Annotations for GitHub Actions; else as GITHUB_ACTIONS says."),
]
REPORTS = Path("reports")
DEMO_SUITE = Path(__file__).resolve().parent.parent.parent / "scenarios" / "suites" / "demo.yaml"


@app.callback()
def _root(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"hts-compat {__version__}")
        raise typer.Exit
    _Debug.on = debug


class _Debug:
    on = False


@app.command()
def demo(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="The incident and one green cell only.")] = False,
    provider: ProviderOption = "auto",
    out: OutOption = REPORTS,
) -> None:
    """Replay the incident on the reference lab with real parts. Exit: 0 as documented, 1 not, 2, 5."""
    from harness.cli import demo as face

    raise typer.Exit(face.demo(quick=quick, provider=provider, out=out))


@app.command()
def run(
    suite: Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="The axes of the run.")],
    *,
    build: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--build", help="An installer, or a portable build's zip or folder, beside the suite's own."),
    ] = None,
    keep: Annotated[Optional[str], typer.Option("-k", metavar="EXPR", help="Only cells whose id fits.")] = None,  # noqa: UP045
    jobs: Annotated[Optional[int], typer.Option("--jobs", min=1, max=256, help="Guests at once.")] = None,  # noqa: UP045
    provider: ProviderOption = "auto",
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Answer no cell from the store.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="DETECTED and waived count as incompatible.")] = False,
    policy: Annotated[Optional[Path], typer.Option("--policy", metavar="FILE", help="Whose waivers hold.")] = None,  # noqa: UP045
    junitxml: Annotated[Optional[Path], typer.Option("--junitxml", metavar="FILE", help="Write JUnit XML too.")] = None,  # noqa: UP045
    alluredir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--alluredir", metavar="DIR", help="Write Allure results too."),
    ] = None,
    github: GithubOption = None,
    out: OutOption = REPORTS,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run cells, keep attempts and verdicts, write the matrix.

    Exit: 0 all good, 1 something incompatible, 2 bad input, 3 could not tell, 4 nothing ran, 5 the lab is not usable.
    """
    from harness.cli import run as face

    asked = face.Asked(
        suite=suite,
        builds=tuple(build or ()),
        keep=keep,
        jobs=jobs,
        provider=provider,
        resume=resume,
        fresh=fresh,
        strict=strict,
        policy=policy,
        github=github,
        junitxml=junitxml,
        alluredir=alluredir,
        out=out,
        store=store,
        as_json=as_json,
    )
    raise typer.Exit(face.run_suite(asked))


@app.command()
def rejudge(
    run: RunArgument = "latest",
    *,
    out: OutOption = REPORTS,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply today's parsers and rules to stored attempts. Starts no guest. Exit: 0 same, 1 differs, 2."""
    from harness.cli import show as face

    raise typer.Exit(face.rejudge(run, out=out, store=store, as_json=as_json))


@app.command()
def matrix(
    run: RunArgument = "latest",
    *,
    form: Annotated[str, typer.Option("--format", help="html, json, csv, md or junit.")] = "md",
    file: Annotated[Optional[Path], typer.Option("-o", metavar="FILE", help="Write to a file.")] = None,  # noqa: UP045
    github: GithubOption = None,
    out: OutOption = REPORTS,
    store: StoreOption = None,
) -> None:
    """Render a stored run. Exit: 0, 2."""
    from harness.cli import show as face

    raise typer.Exit(face.matrix(run, form=form, file=file, out=out, store=store, told=github))


@app.command()
def explain(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or a prefix that is unique.")],
    run: RunArgument = "latest",
    *,
    out: OutOption = REPORTS,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the proof chain of one verdict, green or red, on one screen. Exit: 0, 2."""
    from harness.cli import show as face

    raise typer.Exit(face.explain(cell, run, out=out, store=store, as_json=as_json))


@app.command()
def reproduce(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or a prefix that is unique.")],
    suite: Annotated[Path, typer.Argument(metavar="[SUITE.yaml]", help="Whose cell; else the demo's.")] = DEMO_SUITE,
    *,
    hold: Annotated[str, typer.Option("--hold", metavar="STAGE", help="The step behind which the guest is held.")],
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=1, help="Hold it so long, not until told.")
    ] = None,
    build: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--build", help="An installer, or a portable build's zip or folder, beside the suite's own."),
    ] = None,
    provider: ProviderOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run a cell's steps on a fresh guest up to a stage and hold the guest there, to be looked at and used.

    Says how to see its desktop (VNC on loopback, where the provider can) and how to run commands in it. A step that
    fails before is where it is held, too. Ends with Enter, Ctrl-C or --for; then the guest is gone. What is done in it
    is no evidence: nothing is stored and nothing judged.

    Exit: 0 it was held, 2 bad input, 5 the guest was not to be had, or lost.
    """
    from harness.cli import reproduce as face

    asked = face.Reproduced(
        cell=cell,
        suite=suite,
        stage=hold,
        seconds=seconds,
        builds=tuple(build or ()),
        provider=provider,
        as_json=as_json,
    )
    raise typer.Exit(face.reproduce(asked))


@app.command("in-guest")
def in_guest(
    guest: Annotated[str, typer.Argument(metavar="GUEST", help="As 'reproduce' printed it.")],
    command: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[-- COMMAND...]", help="Program and arguments; none: a shell, line by line."),
    ] = None,
    *,
    user: Annotated[str, typer.Option("--user", help="Account in the guest; root is its administrator.")] = "trader",
    seconds: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For one command.")] = 60.0,
) -> None:
    """Run commands in a guest that 'reproduce' holds. Exit: the command's own; 5 when it cannot be reached."""
    from harness.cli import reproduce as face

    raise typer.Exit(face.in_guest(guest, command or [], user=user, seconds=seconds))


@app.command()
def gate(
    run: RunArgument = "latest",
    *,
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="What must hold for a release.")],
    baseline: Annotated[str | None, typer.Option("--baseline", metavar="RUN", help="An earlier, accepted run.")] = None,
    github: GithubOption = None,
    out: OutOption = REPORTS,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide a release. Exit: 0 pass, 1 blocked, 2 bad input, 3 could not tell, 4 nothing to decide from."""
    from harness.cli import decide as face

    raise typer.Exit(
        face.gate(run, policy=policy, baseline=baseline, out=out, store=store, as_json=as_json, told=github)
    )


@app.command()
def doctor(
    *,
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove what killed runs left.")] = False,
    rig: Annotated[
        bool,
        typer.Option("--rig", help="Run cells whose end is known; say which promise is not kept (1 min)."),
    ] = False,
    provider: ProviderOption = "auto",
    jobs: Annotated[Optional[int], typer.Option("--jobs", min=1, max=256, help="Guests at once (--rig).")] = None,  # noqa: UP045
    out: OutOption = REPORTS,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine can and cannot do, each with the fix.

    With --rig also whether its verdicts can be believed: a known-bad build, a known-good one, protection that dies, an
    excluded path, a stale signature and a product that acts late, end to end. Its run is a drill, never the latest.

    With --provider whether that one is usable; without, whether any is. The first look at virtual machines starts a
    guest, to see which accelerator runs it.

    Exit: 0; 5 something needed is missing, or a promise is not kept.
    """
    from harness.cli import machine as face

    asked = face.RigAsked(provider=provider, jobs=jobs, out=out) if rig else None
    raise typer.Exit(face.doctor(sweep=sweep, as_json=as_json, provider=provider, rig=asked))


@build_app.command("inspect")
def build_inspect(
    path: Annotated[Path, typer.Argument(metavar="BUILD", help="A setup program, an .msi, a .zip or a folder.")],
    *,
    draft: Annotated[
        Path | None, typer.Option("--draft", metavar="FILE", help="Write a scenario to FILE, and a suite beside it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a build, without running it; draft a scenario and a suite for it. Exit: 0, 2."""
    from harness.cli import build as face

    raise typer.Exit(face.inspect(path, draft=draft, json_wanted=as_json))


@image_app.command("build")
def image_build(
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="A folder in vm_images/.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Build an image, once: nothing is done when it is there. Exit: 0, 2, 5."""
    from harness.cli import image as face

    raise typer.Exit(face.image_build(name, as_json=as_json))


@image_app.command("freeze")
def image_freeze(
    name: Annotated[str, typer.Argument(metavar="IMAGE", help="A folder in vm_images/, of a virtual machine.")],
    *,
    suite: Annotated[Path, typer.Option("--suite", metavar="SUITE.yaml", help="Whose cells begin with it.")],
    product: Annotated[str, typer.Option("--product", help="Of this product only; * and ? are wild.")] = "*",
    profile: Annotated[str, typer.Option("--profile", help="With these settings only.")] = "*",
    signature: Annotated[str, typer.Option("--signature", help="With this first signature only.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """Freeze guests with a product up, so that cells of a suite begin with it. Exit: 0, 2, 5."""
    from harness.cli import image as face

    wanted = face.Wanted(suite=suite, product=product, profile=profile, signature=signature)
    raise typer.Exit(face.image_freeze(name, wanted, as_json=as_json))


@image_app.command("list")
def image_list(*, as_json: JsonOption = False) -> None:
    """List the images, whether each has been built, and the layers that are kept. Exit: 0, 5."""
    from harness.cli import image as face

    raise typer.Exit(face.image_list(as_json=as_json))


@image_app.command("check")
def image_check(
    name: Annotated[Optional[str], typer.Argument(metavar="[IMAGE]", help="A folder in vm_images/; else all.")] = None,  # noqa: UP045 - typer reads it
    *,
    as_json: JsonOption = False,
) -> None:
    """Read the layers of virtual machines and compare them with what was made. Exit: 0 whole, 2, 5 not whole."""
    from harness.cli import image as face

    raise typer.Exit(face.image_check(name, as_json=as_json))


@image_app.command("prune")
def image_prune(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only named.")] = False,
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--layer", metavar="LAYER", help="This one, needed or not, by the name that 'image list' gives."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Delete layers of virtual machines that no definition here needs; none that is in use. Exit: 0, 2, 5."""
    from harness.cli import image as face

    raise typer.Exit(face.image_prune(yes=yes, layer=layer, as_json=as_json))


def main() -> None:
    """Run the command line; turn our errors into a sentence, a hint and the contract's exit code."""
    from harness.cli import say

    try:
        app(standalone_mode=True)
    except HarnessError as error:
        if _Debug.on:
            raise
        say.problem(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say.note("interrupted")
        sys.exit(130)
    except Exception as error:
        if _Debug.on:
            raise
        say.note(f"error: The tool itself failed ({type(error).__name__}: {error}).")
        say.note("hint: Run it again with --debug and report what it prints.")
        sys.exit(5)
