package anabranch.benchmark;

import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/** Predicts an input that is written as text. */
final class PredictText extends ContextualFixedKeyProcessor<byte[], TextInput, TextPrediction> {

    private final OnnxRow model;

    PredictText(OnnxModel model) {
        this.model = model.row();
    }

    @Override
    public void process(FixedKeyRecord<byte[], TextInput> record) {
        TextInput input = record.value();
        input.putInto(model.input());
        context().forward(record.withValue(TextPrediction.of(input, model.run())));
    }

    @Override
    public void close() {
        model.close();
    }
}
