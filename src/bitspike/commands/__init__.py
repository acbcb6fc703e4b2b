"""The commands of ``bitspike`` on the command line, one typed function each, thin calls into the library."""

from bitspike.commands.bench import bench
from bitspike.commands.convert import convert
from bitspike.commands.demo import demo
from bitspike.commands.export import export
from bitspike.commands.finished import compare, cost, evaluate, fold
from bitspike.commands.program import compile as compile
from bitspike.commands.program import inspect, run, verify
from bitspike.commands.report import report
from bitspike.commands.reproduce import reproduce
from bitspike.commands.study import study
from bitspike.commands.train import train
from bitspike.commands.view import view
from bitspike.commands.zoo import zoo

__all__ = [
    "bench",
    "compare",
    "convert",
    "cost",
    "demo",
    "evaluate",
    "export",
    "fold",
    "inspect",
    "report",
    "reproduce",
    "run",
    "study",
    "train",
    "verify",
    "view",
    "zoo",
]
