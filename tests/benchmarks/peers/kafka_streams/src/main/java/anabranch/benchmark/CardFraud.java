package anabranch.benchmark;

import ai.onnxruntime.OrtException;
import java.io.IOException;
import java.nio.file.Path;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;

/**
 * W1: three stages and the join of their outputs, one record at a time.
 *
 * <p>Every stage writes its own topic, which the next stage and the join read by its name; all of
 * them are keyed by transaction_id and have as many partitions, so that the outputs for an event
 * meet in one task. It is one application, so that a topic that two of its parts read is fetched
 * once.
 */
final class CardFraud {

    private final StreamsBuilder builder = new StreamsBuilder();
    private final Path models;
    private final String prefix;

    private CardFraud(Path models, String prefix) {
        this.models = models;
        this.prefix = prefix;
    }

    /** The topology, with the models and the pipeline file of a directory. */
    static Topology topology(Path models, String prefix) throws IOException, OrtException {
        return new CardFraud(models, prefix).build();
    }

    private Topology build() throws IOException, OrtException {
        KStream<String, StageOutput> features = features();
        KStream<String, StageOutput> risk = next(features, Stage.RISK);
        KStream<String, StageOutput> decision = next(risk, Stage.DECISION);
        Weigh weigh = new Weigh(PipelineFile.in(models), prefix + ".events");
        features.merge(risk)
                .merge(decision)
                .processValues(new JoinSignals.Supplier())
                .mapValues(weigh::decide)
                .to(prefix + ".decisions", Produced.with(Serdes.String(), Decision.SERDE));
        return builder.build();
    }

    private KStream<String, StageOutput> features() throws OrtException {
        OnnxModel model = model(Stage.FEATURES);
        KStream<String, StageOutput> outputs =
                read(prefix + ".events", Json.serde(Event.class))
                        .processValues(() -> new ExtractFeatures(model));
        return throughTopic(outputs, Stage.FEATURES);
    }

    private KStream<String, StageOutput> next(KStream<String, StageOutput> before, Stage stage)
            throws OrtException {
        OnnxModel model = model(stage);
        return throughTopic(before.processValues(() -> new ApplyModel(stage, model)), stage);
    }

    private KStream<String, StageOutput> throughTopic(
            KStream<String, StageOutput> outputs, Stage stage) {
        String topic = prefix + "." + stage.label();
        outputs.to(topic, Produced.with(Serdes.String(), StageOutput.SERDE));
        return read(topic, StageOutput.SERDE);
    }

    private <T> KStream<String, T> read(String topic, Serde<T> values) {
        return builder.stream(topic, Consumed.with(Serdes.String(), values));
    }

    private OnnxModel model(Stage stage) throws OrtException {
        return new OnnxModel(models.resolve(stage.label() + ".onnx"));
    }
}
