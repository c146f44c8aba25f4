"""What the `statebacked` command can be asked to do."""

from typing import Annotated

import typer

from statebacked import __version__
from statebacked.serve.options import with_settings
from statebacked.settings import Settings

cli = typer.Typer(
    name="statebacked",
    help="Runs any XState state machine as a durable, authorised, real-time backend.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@cli.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda on: _print_version(on))
    ] = False,
) -> None:
    pass


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(__version__)
        raise typer.Exit


TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Ask a server that runs in the data folder to stop, then start.")
]
# Read before this command line is: see serve/main.py.
NoSupervisor = Annotated[
    bool,
    typer.Option(
        "--no-supervisor",
        envvar="STATEBACKED_NO_SUPERVISOR",
        help="One process: nobody starts the server again when it fails, and no connection waits meanwhile.",
    ),
]


@cli.command()
@with_settings
def serve(settings: Settings, take_over: TakeOver = False, no_supervisor: NoSupervisor = False) -> None:
    """Run a server until SIGTERM or Ctrl-C. The first start writes admin.json into the data folder."""
    from statebacked.serve.run import Work, run

    raise typer.Exit(run(settings, Work(is_take_over=take_over)))


@cli.command()
@with_settings
def dev(
    settings: Settings,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Machine files, or NAME=FILE to choose the name.")
    ],
    reset: Annotated[bool, typer.Option("--reset", help="Start with an empty data folder.")] = False,
    page_port: Annotated[
        int,
        typer.Option(
            envvar="STATEBACKED_PAGE_PORT",
            min=0,
            max=65_535,
            help="Port of the example page; 0: any free one.",
        ),
    ] = 7071,
    no_migrate: Annotated[
        bool, typer.Option("--no-migrate", help="Leave instances on the version that they have.")
    ] = False,
    no_source_map: Annotated[
        bool, typer.Option("--no-source-map", help="Errors name places in the bundle, not in your files.")
    ] = False,
    take_over: TakeOver = False,
    no_supervisor: NoSupervisor = False,
) -> None:
    """Run a server, deploy FILEs, deploy them again whenever they change. Instances move to the new code
    where their state still exists."""
    from statebacked.serve.dev_plan import DevOptions
    from statebacked.serve.dev_start import start_dev

    options = DevOptions(moves_instances=not no_migrate, has_source_map=not no_source_map)
    code = start_dev(settings, files, options, is_reset=reset, page_port=page_port, is_take_over=take_over)
    raise typer.Exit(code)
