package anabranch.benchmark;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.annotation.JsonDeserialize;

/** A card transaction, valid: {@link Json} checks the fields' types, this their values. */
record Event(
        String transactionId,
        @JsonProperty("occurred_at") @JsonDeserialize(using = Rfc3339.Reader.class)
                long occurredAtMs,
        String customerId,
        String terminalId,
        double amount,
        String channel,
        String currency,
        String merchant) {

    Event {
        if (!Double.isFinite(amount) || amount < 0) {
            throw new IllegalArgumentException("amount is not a number from 0 on: " + amount);
        }
    }
}
