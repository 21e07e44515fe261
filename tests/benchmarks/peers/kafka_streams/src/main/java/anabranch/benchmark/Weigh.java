package anabranch.benchmark;

import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/** Decides an event by the weighted sum of its signals. */
final class Weigh {

    private final PipelineFile pipeline;
    private final String events;
    private final List<Map.Entry<String, Double>> highestFirst;

    /** As the pipeline file says, about the events of a topic. */
    Weigh(PipelineFile pipeline, String events) {
        this.pipeline = pipeline;
        this.events = events;
        highestFirst =
                pipeline.thresholds().entrySet().stream()
                        .sorted(Map.Entry.comparingByValue(Comparator.reverseOrder()))
                        .toList();
    }

    /** The decision about an event all of whose signals are there. */
    Decision decide(String eventId, Signals signals) {
        Map<Stage, Decision.Contribution> contributions = new EnumMap<>(Stage.class);
        double score = 0;
        for (Stage stage : Stage.values()) {
            Decision.Contribution made = contribution(stage, signals.values()[stage.ordinal()]);
            contributions.put(stage, made);
            score += made.contribution();
        }
        Origin origin = signals.origin();
        long nowMs = System.currentTimeMillis();
        return new Decision(
                eventId,
                pipeline.pipeline(),
                highestReached(score),
                score,
                contributions,
                false,
                List.of(),
                pipeline.weightsVersion(),
                pipeline.policy(),
                new Decision.Source(events, origin.partition(), origin.offset()),
                Rfc3339.format(origin.eventTimeMs()),
                Rfc3339.format(nowMs),
                Math.max(nowMs - origin.publishedMs(), 0));
    }

    private Decision.Contribution contribution(Stage stage, double signal) {
        double weight = pipeline.weights().get(stage);
        PipelineFile.Model model = pipeline.models().get(stage);
        return new Decision.Contribution(
                signal, weight, weight * signal, model.model(), model.digest(), model.variant());
    }

    private String highestReached(double score) {
        for (Map.Entry<String, Double> threshold : highestFirst) {
            if (score >= threshold.getValue()) {
                return threshold.getKey();
            }
        }
        return pipeline.otherwise();
    }
}
