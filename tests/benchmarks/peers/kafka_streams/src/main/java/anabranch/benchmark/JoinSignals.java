package anabranch.benchmark;

import java.time.Duration;
import java.util.Set;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Joins the outputs of all stages by event, in whatever order they come.
 *
 * <p>Every event leaves when its last signal has come: once, and after a crash perhaps again. What
 * records that were repeated after a crash leave incomplete is dropped after an hour.
 *
 * <p>This is a processor with a store of its own rather than joins of KStreams, which would be as
 * right: three streams take two of those, and four window stores, each with its changelog. Here
 * every event has one entry in one store, for half of the CPU time per event.
 */
final class JoinSignals extends ContextualFixedKeyProcessor<String, StageOutput, Signals> {

    private static final String STORE = "signals";
    private static final Duration REMEMBERED = Duration.ofHours(1);
    private static final Duration SWEEP = Duration.ofMinutes(1);

    private KeyValueStore<String, Signals> waiting;

    @Override
    public void init(FixedKeyProcessorContext<String, Signals> context) {
        super.init(context);
        waiting = context.getStateStore(STORE);
        context.schedule(SWEEP, PunctuationType.WALL_CLOCK_TIME, this::dropOlder);
    }

    @Override
    public void process(FixedKeyRecord<String, StageOutput> record) {
        StageOutput output = record.value();
        Signals before = waiting.get(record.key());
        if (before == null) {
            before = Signals.none(output.origin(), context().currentSystemTimeMs());
        }
        Signals signals = before.with(output.stage(), output.signal());
        if (signals.complete()) {
            waiting.delete(record.key());
            context().forward(record.withValue(signals));
        } else {
            waiting.put(record.key(), signals);
        }
    }

    private void dropOlder(long nowMs) {
        try (KeyValueIterator<String, Signals> all = waiting.all()) {
            while (all.hasNext()) {
                KeyValue<String, Signals> entry = all.next();
                if (entry.value.sinceMs() < nowMs - REMEMBERED.toMillis()) {
                    waiting.delete(entry.key);
                }
            }
        }
    }

    /** Brings the store along, so that the processor and its state are declared at once. */
    static final class Supplier
            implements FixedKeyProcessorSupplier<String, StageOutput, Signals> {

        @Override
        public JoinSignals get() {
            return new JoinSignals();
        }

        /**
         * The store of events that wait for a signal: in memory, and with a changelog, since the
         * offset of a stage's output may be committed while the output waits here.
         *
         * <p>It has no cache: in front of a store in memory that costs more than the writes to the
         * changelog that it saves.
         */
        @Override
        public Set<StoreBuilder<?>> stores() {
            return Set.of(
                    Stores.keyValueStoreBuilder(
                            Stores.inMemoryKeyValueStore(STORE),
                            Serdes.String(),
                            Signals.SERDE));
        }
    }
}
