package anabranch.benchmark;

import java.util.Arrays;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/** A later stage: the signal of its model on what the stage before it has put out. */
final class ApplyModel extends ContextualFixedKeyProcessor<String, StageOutput, StageOutput> {

    private final Stage stage;
    private final OnnxRow model;

    ApplyModel(Stage stage, OnnxModel model) {
        this.stage = stage;
        this.model = model.row();
    }

    @Override
    public void process(FixedKeyRecord<String, StageOutput> record) {
        StageOutput read = record.value();
        double signal = model.signal(read.output());
        double[] output = Arrays.copyOf(read.output(), read.output().length + 1);
        output[read.output().length] = signal;
        context().forward(record.withValue(new StageOutput(stage, read.origin(), output, signal)));
    }

    @Override
    public void close() {
        model.close();
    }
}
