package anabranch.benchmark;

import java.nio.ByteBuffer;

/**
 * Where and when an event came from: the coordinates and the timestamp of its record, and its event
 * time. It travels with the stages' outputs, since a stage's own record has other coordinates.
 */
record Origin(int partition, long offset, long publishedMs, long eventTimeMs) {

    /** How long it is as bytes. */
    static final int BYTES = Integer.BYTES + 3 * Long.BYTES;

    void putInto(ByteBuffer buffer) {
        buffer.putInt(partition).putLong(offset).putLong(publishedMs).putLong(eventTimeMs);
    }

    static Origin of(ByteBuffer buffer) {
        return new Origin(buffer.getInt(), buffer.getLong(), buffer.getLong(), buffer.getLong());
    }
}
