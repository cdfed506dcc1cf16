"""Asks Marabou whether the only output of each network can be ≥ 0; runs where maraboupy is.

Reads questions as JSON from standard input, prints one line "= answer" for each. Each question has
a process of its own, since Marabou may abort.
"""

import json
import multiprocessing
import sys


def ask(question, seconds, answer):
    """Put sat, unsat or another exit code of Marabou into a queue."""
    from maraboupy import MarabouCore

    query, count = MarabouCore.InputQuery(), 0

    def new(low=None, high=None):
        nonlocal count
        query.setNumberOfVariables(count + 1)
        if low is not None:
            query.setLowerBound(count, low)
        if high is not None:
            query.setUpperBound(count, high)
        count += 1
        return count - 1

    values, relus, equations, bounds = [], [], [], []
    for low, high in zip(question["low"], question["high"], strict=True):
        values.append(count)
        bounds.append((count, low, high))
        count += 1
    inputs = list(values)
    for weight, bias, relu in question["layers"]:
        z = list(range(count, count + len(bias)))
        count += len(bias)
        equations += [(z[i], row, values, bias[i]) for i, row in enumerate(weight)]
        values = list(z)
        for i, on in enumerate(relu):
            if on:
                values[i] = count
                relus.append((z[i], count))
                count += 1
    query.setNumberOfVariables(count)
    for i, v in enumerate(inputs):
        query.markInputVariable(v, i)
    query.markOutputVariable(values[0], 0)
    for v, low, high in bounds:
        query.setLowerBound(v, low)
        query.setUpperBound(v, high)
    for z, row, before, bias in equations:
        equation = MarabouCore.Equation()
        for c, v in zip(row, before, strict=True):
            if c:
                equation.addAddend(c, v)
        equation.addAddend(-1.0, z)
        equation.setScalar(-bias)
        query.addEquation(equation)
    for z, a in relus:
        MarabouCore.addReluConstraint(query, z, a)
    query.setLowerBound(values[0], 0.0)
    options = MarabouCore.Options()
    options._timeoutInSeconds, options._verbosity = seconds, 0
    answer.put(str(MarabouCore.solve(query, options, "")[0]))


def main():
    """Ask all questions."""
    seconds = int(sys.argv[1])
    for question in json.load(sys.stdin):
        queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=ask, args=(question, seconds, queue))
        process.start()
        process.join(2 * seconds)
        if process.is_alive():
            process.kill()
            process.join()
        print("=", queue.get(timeout=5) if process.exitcode == 0 else "crashed", flush=True)


if __name__ == "__main__":
    main()
