"""An ordinary int8 network of the same layers through TensorFlow Lite, run by TensorFlow Lite Micro's interpreter.

Usage: python benchmarks/microcontroller/int8.py [--out results/microcontroller/int8-digits.json]

In an environment of its own: ``pip install tensorflow-cpu tflite-micro scikit-learn``. Layers and channels are those of
study_cnn on the digits (width 16), with ReLU instead of neurons and one step; images are split as bitspike's are:
a fifth for tests. The network is quantized after training, weights and activations to 8 bits.

What TensorFlow Lite Micro itself takes in flash depends on its build, and its instructions on its kernels: neither is
measured, since no package of PyPI or Debian has it, or CMSIS-NN, compiled for a Cortex-M.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tflite_micro import runtime

EPOCHS = 40


def main() -> None:
    """Train, quantize, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/microcontroller/int8-digits.json"))
    given = parser.parse_args()
    tf.keras.utils.set_random_seed(0)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    digits = load_digits()
    x = (digits.images[..., None] / 16).astype(np.float32)
    train, test, train_labels, labels = train_test_split(
        x, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    model = network()
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train, train_labels, batch_size=32, epochs=EPOCHS, verbose=0)
    flat = quantized(model, train[:256])
    found = classes(flat, test)
    float_classes = model.predict(test, verbose=0).argmax(1)
    result = {
        "images": len(test),
        "accuracy": float((found == labels).mean()),
        "float_accuracy": float((float_classes == labels).mean()),
        "weights": int(model.count_params()),
        "flatbuffer_bytes": len(flat),
        "arena_bytes": arena(flat),
        "epochs": EPOCHS,
        "versions": {name: version(name) for name in ("tensorflow-cpu", "tflite-micro")},
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


def network() -> tf.keras.Model:
    """study_cnn: a stem, a block with an identity shortcut, a block that goes to half the size, a classifier."""
    layers = tf.keras.layers

    def convolved(y: tf.Tensor, channels: int, stride: int = 1, kernel: int = 3) -> tf.Tensor:
        y = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False)(y)
        return layers.BatchNormalization()(y)

    given = layers.Input((8, 8, 1))
    y = layers.ReLU()(convolved(given, 16))
    z = layers.ReLU()(convolved(y, 16))
    y = layers.ReLU()(layers.Add()([convolved(z, 16), y]))
    z = layers.ReLU()(convolved(y, 32, 2))
    short = convolved(layers.AveragePooling2D(2)(y), 32, kernel=1)
    y = layers.ReLU()(layers.Add()([convolved(z, 32), short]))
    y = layers.Flatten()(layers.AveragePooling2D(2)(y))
    return tf.keras.Model(given, layers.Dense(10)(y))


def quantized(model: tf.keras.Model, samples: np.ndarray) -> bytes:
    """An int8 flatbuffer."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def classes(flat: bytes, images: np.ndarray) -> np.ndarray:
    """What TensorFlow Lite Micro says."""
    interpreter = runtime.Interpreter.from_bytes(flat)
    details = interpreter.get_input_details(0)["quantization_parameters"]
    scale, zero = details["scales"][0], details["zero_points"][0]
    found = []
    for image in images:
        levels = np.clip(np.round(image[None] / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_input(levels, 0)
        interpreter.invoke()
        found.append(int(interpreter.get_output(0).argmax()))
    return np.array(found)


RECORD = """
import sys
from tflite_micro import runtime
recording = runtime.InterpreterConfig.kAllocationRecording
interpreter = runtime.Interpreter.from_file(sys.argv[1], intrepreter_config=recording)
interpreter.print_allocations()
"""


def arena(flat: bytes) -> int:
    """Bytes of the arena that the interpreter of this 64-bit machine takes; its library says so on its own output."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        path.write_bytes(flat)
        done = subprocess.run([sys.executable, "-c", RECORD, str(path)], capture_output=True, text=True, check=True)
    found = re.search(r"Arena allocation total (\d+) bytes", done.stdout + done.stderr)
    if found is None:
        raise RuntimeError(f"no size of the arena in: {done.stdout}{done.stderr}")
    return int(found[1])


if __name__ == "__main__":
    main()
