package anabranch.benchmark;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * An ONNX file with one input (N, F) and one output, (N,) or (N, K), both float32, opened for as
 * long as the process lives. Threads may share it.
 */
final class OnnxModel {

    private final OrtSession session;

    /**
     * Opens {@code file}; a row is computed by the thread that asks for it.
     *
     * @throws OrtException if ONNX Runtime cannot open it
     */
    OnnxModel(Path file) throws OrtException {
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(1);
        session = OrtEnvironment.getEnvironment().createSession(file.toString(), options);
    }

    /** A new place to compute rows, one after the other. */
    OnnxRow row() {
        try {
            NodeInfo input = session.getInputInfo().values().iterator().next();
            NodeInfo output = session.getOutputInfo().values().iterator().next();
            return new OnnxRow(
                    session, input.getName(), oneRow(input), output.getName(), oneRow(output));
        } catch (OrtException e) {
            throw new IllegalStateException("cannot prepare a model's tensors", e);
        }
    }

    /** The shape of a tensor whose first dimension, the number of rows, is 1. */
    private static long[] oneRow(NodeInfo node) {
        long[] shape = ((TensorInfo) node.getInfo()).getShape();
        long[] one = Arrays.copyOf(shape, shape.length);
        one[0] = 1;
        return one;
    }
}
