package anabranch.benchmark;

import ai.onnxruntime.OrtException;
import java.nio.file.Path;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;

/** W2: one stage that predicts one record at a time, as Crayfish has it; keys are passed on. */
final class Crayfish {

    private Crayfish() {}

    /** JSON in, JSON out. */
    static Topology text(Path models, String prefix) throws OrtException {
        OnnxModel model = model(models);
        return topology(
                prefix,
                Json.serde(TextInput.class),
                () -> new PredictText(model),
                Json.serde(TextPrediction.class));
    }

    /** Little-endian float32 in and out. */
    static Topology tensor(Path models, String prefix) throws OrtException {
        OnnxModel model = model(models);
        return topology(
                prefix, Serdes.ByteBuffer(), () -> new PredictTensor(model), Serdes.ByteArray());
    }

    private static <I, O> Topology topology(
            String prefix,
            Serde<I> inputs,
            FixedKeyProcessorSupplier<byte[], I, O> predict,
            Serde<O> predictions) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(prefix + ".events", Consumed.with(Serdes.ByteArray(), inputs))
                .processValues(predict)
                .to(prefix + ".predictions", Produced.with(Serdes.ByteArray(), predictions));
        return builder.build();
    }

    private static OnnxModel model(Path models) throws OrtException {
        return new OnnxModel(models.resolve("ffnn.onnx"));
    }
}
