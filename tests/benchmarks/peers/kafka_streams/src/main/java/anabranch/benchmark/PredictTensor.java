package anabranch.benchmark;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/** Predicts an input of little-endian float32, and puts the same out. */
final class PredictTensor extends ContextualFixedKeyProcessor<byte[], ByteBuffer, byte[]> {

    private final OnnxRow model;

    PredictTensor(OnnxModel model) {
        this.model = model.row();
    }

    /**
     * Forwards the prediction.
     *
     * @throws IllegalArgumentException if the record is longer or shorter than an input
     */
    @Override
    public void process(FixedKeyRecord<byte[], ByteBuffer> record) {
        FloatBuffer read = record.value().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        FloatBuffer input = model.input();
        if (read.remaining() != input.remaining()) {
            throw new IllegalArgumentException(
                    "an input has " + input.remaining() + " numbers, not " + read.remaining());
        }
        input.put(read);
        FloatBuffer output = model.run();
        ByteBuffer prediction =
                ByteBuffer.allocate(output.remaining() * Float.BYTES)
                        .order(ByteOrder.LITTLE_ENDIAN);
        prediction.asFloatBuffer().put(output);
        context().forward(record.withValue(prediction.array()));
    }

    @Override
    public void close() {
        model.close();
    }
}
