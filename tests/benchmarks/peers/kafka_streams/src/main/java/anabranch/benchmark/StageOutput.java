package anabranch.benchmark;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/**
 * What a stage says of an event: a record of its topic, keyed by the event.
 *
 * @param output what the next stage's model reads
 * @param signal what is weighed
 */
record StageOutput(Stage stage, Origin origin, double[] output, double signal) {

    /**
     * Fixed-width binary, big-endian: the stage's number (1 byte), partition (4), offset,
     * timestamp, event time and signal (8 each), and the output (8 each) up to the end.
     */
    static final Serde<StageOutput> SERDE =
            Serdes.serdeFrom(
                    (topic, output) -> output.toBytes(),
                    (topic, bytes) -> of(ByteBuffer.wrap(bytes)));

    private byte[] toBytes() {
        ByteBuffer buffer =
                ByteBuffer.allocate(1 + Origin.BYTES + Double.BYTES * (1 + output.length));
        buffer.put((byte) stage.ordinal());
        origin.putInto(buffer);
        buffer.putDouble(signal);
        buffer.asDoubleBuffer().put(output);
        return buffer.array();
    }

    private static StageOutput of(ByteBuffer buffer) {
        Stage stage = Stage.values()[buffer.get()];
        Origin origin = Origin.of(buffer);
        double signal = buffer.getDouble();
        double[] output = new double[buffer.remaining() / Double.BYTES];
        buffer.asDoubleBuffer().get(output);
        return new StageOutput(stage, origin, output, signal);
    }
}
