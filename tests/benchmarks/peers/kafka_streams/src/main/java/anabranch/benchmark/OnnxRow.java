package anabranch.benchmark;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;
import org.apache.kafka.streams.errors.StreamsException;

/**
 * Computes one row at a time: Kafka Streams hands over single records and knows no batches.
 *
 * <p>The tensors are allocated once and used again for every row, which ONNX Runtime reads and
 * writes in place. For one thread at a time.
 */
final class OnnxRow implements AutoCloseable {

    private final OrtSession session;
    private final FloatBuffer input;
    private final FloatBuffer output;
    private final Map<String, OnnxTensor> inputs;
    private final Map<String, OnnxTensor> outputs;

    /** For a session, and names and shapes of its input and its output. */
    OnnxRow(OrtSession session, String input, long[] inputShape, String output, long[] outputShape)
            throws OrtException {
        this.session = session;
        this.input = allocate(inputShape);
        this.output = allocate(outputShape);
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        inputs = Map.of(input, OnnxTensor.createTensor(environment, this.input, inputShape));
        outputs = Map.of(output, OnnxTensor.createTensor(environment, this.output, outputShape));
    }

    /** Where the row is to be put: F floats, from the first on. */
    FloatBuffer input() {
        return input.clear();
    }

    /**
     * What the model says of the row in {@link #input}; the next run overwrites it.
     *
     * @throws StreamsException if the model fails on it
     */
    FloatBuffer run() {
        try {
            session.run(inputs, outputs).close();
            return output.clear();
        } catch (OrtException e) {
            throw new StreamsException("the model failed on a row", e);
        }
    }

    /** What a model with one number as its output says of {@code row}, rounded to float32. */
    double signal(double[] row) {
        FloatBuffer floats = input();
        for (double value : row) {
            floats.put((float) value);
        }
        return run().get();
    }

    @Override
    public void close() {
        inputs.values().forEach(OnnxTensor::close);
        outputs.values().forEach(OnnxTensor::close);
    }

    /** Direct and in the machine's byte order, so that ONNX Runtime takes it without a copy. */
    private static FloatBuffer allocate(long[] shape) {
        int size = Float.BYTES;
        for (long dimension : shape) {
            size *= (int) dimension;
        }
        return ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }
}
