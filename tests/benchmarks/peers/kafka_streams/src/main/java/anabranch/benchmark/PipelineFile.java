package anabranch.benchmark;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/** pipeline.json: how the stages' signals are weighed, and which models gave them. */
record PipelineFile(
        String pipeline,
        String policy,
        int weightsVersion,
        Map<Stage, Double> weights,
        String otherwise,
        Map<String, Double> thresholds,
        Map<Stage, Model> models) {

    /** What decisions name a model by. */
    record Model(String model, String digest, String variant) {}

    /**
     * Reads pipeline.json of a directory.
     *
     * @throws IOException if it is not there, or not as declared
     */
    static PipelineFile in(Path directory) throws IOException {
        return Json.MAPPER.readValue(
                directory.resolve("pipeline.json").toFile(), PipelineFile.class);
    }
}
