package anabranch.benchmark;

import java.nio.ByteBuffer;
import java.util.Arrays;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/**
 * The signals of one event that have come so far.
 *
 * @param values by stage; NaN for one that has not come
 * @param sinceMs when the first one came, by the wall clock
 */
record Signals(Origin origin, double[] values, long sinceMs) {

    /** Fixed-width binary: the join's state is read by nobody else. */
    static final Serde<Signals> SERDE =
            Serdes.serdeFrom(
                    (topic, signals) -> signals == null ? null : signals.toBytes(),
                    (topic, bytes) -> bytes == null ? null : of(ByteBuffer.wrap(bytes)));

    private static final int STAGES = Stage.values().length;

    /** No signal yet. */
    static Signals none(Origin origin, long sinceMs) {
        double[] values = new double[STAGES];
        Arrays.fill(values, Double.NaN);
        return new Signals(origin, values, sinceMs);
    }

    /** These and a stage's signal, which replaces an earlier one of that stage. */
    Signals with(Stage stage, double signal) {
        double[] more = values.clone();
        more[stage.ordinal()] = signal;
        return new Signals(origin, more, sinceMs);
    }

    boolean complete() {
        for (double value : values) {
            if (Double.isNaN(value)) {
                return false;
            }
        }
        return true;
    }

    private byte[] toBytes() {
        ByteBuffer buffer =
                ByteBuffer.allocate(Origin.BYTES + Long.BYTES + STAGES * Double.BYTES);
        origin.putInto(buffer);
        buffer.putLong(sinceMs);
        buffer.asDoubleBuffer().put(values);
        return buffer.array();
    }

    private static Signals of(ByteBuffer buffer) {
        Origin origin = Origin.of(buffer);
        long sinceMs = buffer.getLong();
        double[] values = new double[STAGES];
        buffer.asDoubleBuffer().get(values);
        return new Signals(origin, values, sinceMs);
    }
}
