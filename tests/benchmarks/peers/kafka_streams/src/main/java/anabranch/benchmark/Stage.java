package anabranch.benchmark;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.Locale;

/** The stages of card fraud, in the order in which they are weighed. */
enum Stage {
    @JsonProperty("features")
    FEATURES,
    @JsonProperty("risk")
    RISK,
    @JsonProperty("decision")
    DECISION;

    /** What pipeline files, models and topics call it. */
    String label() {
        return name().toLowerCase(Locale.ROOT);
    }
}
