package anabranch.benchmark;

import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/** The first stage: an event's features, the signal of their model, and the event's origin. */
final class ExtractFeatures extends ContextualFixedKeyProcessor<String, Event, StageOutput> {

    private final OnnxRow model;

    ExtractFeatures(OnnxModel model) {
        this.model = model.row();
    }

    @Override
    public void process(FixedKeyRecord<String, Event> record) {
        double[] features = FeatureVector.of(record.value());
        StageOutput output =
                new StageOutput(Stage.FEATURES, origin(record), features, model.signal(features));
        context().forward(record.withValue(output));
    }

    private Origin origin(FixedKeyRecord<String, Event> record) {
        RecordMetadata source = context().recordMetadata().orElseThrow();
        return new Origin(
                source.partition(),
                source.offset(),
                record.timestamp(),
                record.value().occurredAtMs());
    }

    @Override
    public void close() {
        model.close();
    }
}
