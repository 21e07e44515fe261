package anabranch.benchmark;

import java.util.List;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;

/** The decision record: score = Σ contribution, and contribution = weight · signal. */
record Decision(
        String eventId,
        String pipeline,
        String decision,
        double score,
        Map<Stage, Contribution> contributions,
        boolean degraded,
        List<Stage> missing,
        int weights,
        String policy,
        Source source,
        String eventTime,
        String decidedAt,
        long latencyMs) {

    static final Serde<Decision> SERDE = Json.serde(Decision.class);

    /** What one stage adds to the score, by which model. */
    record Contribution(
            double signal,
            double weight,
            double contribution,
            String model,
            String digest,
            String variant) {}

    /** The coordinates of the event's record. */
    record Source(String topic, int partition, long offset) {}
}
