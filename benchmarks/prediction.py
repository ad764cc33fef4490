"""Measure how many times faster than real time an exported model predicts sound, on one core.

    python benchmarks/prediction.py MODEL AUDIO [--files 150] [--out benchmarks/results/prediction.json]

MODEL is what `sersearch export` wrote, AUDIO a folder. The time is that of the process on its core (CPU seconds), so
other programs on the machine do not count; it has decoding, features and network. The ratio to what decoding alone
takes says how much the model adds.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from results_file import write_results

from sersearch.deployment.classifier import read_model_record
from sersearch.deployment.prediction import predict_files
from sersearch.speech.audio import audio_files, decode


def main() -> None:
    """Predict once to warm up, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--files", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prediction.json"))
    given = parser.parse_args()
    record = read_model_record(given.model)
    files = audio_files(given.audio)[: given.files]
    list(predict_files(given.model, files[:2]))
    start = time.process_time()
    predicted = list(predict_files(given.model, files))
    predicting_s = time.process_time() - start
    start = time.process_time()
    samples = sum(decode(row.path, record.front_end.sampling_rate).size for row in predicted if not row.problem)
    decoding_s = time.process_time() - start
    speech_s = samples / record.front_end.sampling_rate
    figures = {
        "model": record.configuration.description,
        "files": len(files),
        "not_predicted": sum(bool(row.problem) for row in predicted),
        "speech_s": round(speech_s, 1),
        "cpu_s": round(predicting_s, 3),
        "times_real_time": round(speech_s / predicting_s, 1),
        "times_decoding": round(predicting_s / decoding_s, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(figures)
    write_results(given.out, figures)


if __name__ == "__main__":
    main()
