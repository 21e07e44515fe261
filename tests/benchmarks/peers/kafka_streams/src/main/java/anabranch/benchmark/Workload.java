package anabranch.benchmark;

import ai.onnxruntime.OrtException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.streams.Topology;

/** What the benchmark has a peer do. */
enum Workload {
    W1("w1", CardFraud::topology),
    W2_TEXT("w2-text", Crayfish::text),
    W2_TENSOR("w2-tensor", Crayfish::tensor);

    private final String label;
    private final Builder builder;

    Workload(String label, Builder builder) {
        this.label = label;
        this.builder = builder;
    }

    /**
     * The workload that the command line calls so.
     *
     * @throws IllegalArgumentException with a message for the user, if there is none
     */
    static Workload named(String label) {
        for (Workload workload : values()) {
            if (workload.label.equals(label)) {
                return workload;
            }
        }
        List<String> known = Arrays.stream(values()).map(workload -> workload.label).toList();
        throw new IllegalArgumentException("--workload is one of " + known + ", not " + label);
    }

    /**
     * Its topology, with the models of a directory, on the topics with a prefix.
     *
     * @throws IOException if a file is missing or is not what it should be
     * @throws OrtException if ONNX Runtime cannot open a model
     */
    Topology topology(Path models, String prefix) throws IOException, OrtException {
        return builder.build(models, prefix);
    }

    private interface Builder {
        Topology build(Path models, String prefix) throws IOException, OrtException;
    }
}
