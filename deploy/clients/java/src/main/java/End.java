import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;

/**
 * How an event ended: by a decision, or as a dead letter.
 *
 * @param source which event, as TOPIC/PARTITION/OFFSET
 * @param content what is said of it: {@code attempt} and {@code decision}, or {@code dead_letter}
 */
record End(String source, ObjectNode content) {
  static final ObjectMapper JSON = new ObjectMapper();

  /** A decision of a later schema means something else: stop, and read the changelog. */
  private static final int SCHEMA = 1;

  /** The end that a record of decisions or dead letters says; empty if it says none. */
  static Optional<End> of(ConsumerRecord<String, byte[]> record) throws JsonProcessingException {
    ObjectNode content = JSON.createObjectNode();
    if (record.topic().endsWith(".dead-letters")) {
      List<String> place =
          List.of(
              header(record, "x-error-topic"),
              header(record, "x-error-partition"),
              header(record, "x-error-offset"));
      ObjectNode letter = content.putObject("dead_letter");
      for (String name : List.of("stage", "class", "reason", "attempt")) {
        letter.put(name, header(record, "x-error-" + name));
      }
      return place.contains("")
          ? Optional.empty()
          : Optional.of(new End(String.join("/", place), content));
    }
    if (record.value() == null || !header(record, "ce_type").equals("anabranch.decision")) {
      return Optional.empty();
    }
    JsonNode decision = JSON.readTree(new String(record.value(), StandardCharsets.UTF_8));
    if (decision.path("schema").asInt(0) > SCHEMA) {
      throw new IllegalStateException(
          record.topic() + ": a decision of schema " + decision.path("schema"));
    }
    String attempt = header(record, "x-redrive-attempt");
    content.put("attempt", attempt.isEmpty() ? 1 : Integer.parseInt(attempt));
    content.set("decision", decision);
    return Optional.of(new End(header(record, "ce_id"), content));
  }

  boolean isDecision() {
    return content.has("decision");
  }

  /** The event's identity: where its producer wrote it, also where the source is a copy. */
  String event() {
    JsonNode decision = content.get("decision");
    JsonNode at = decision.hasNonNull("origin") ? decision.get("origin") : decision.get("source");
    return List.of("topic", "partition", "offset").stream()
        .map(name -> at.get(name).asText())
        .collect(Collectors.joining("/"));
  }

  private static String header(ConsumerRecord<?, ?> record, String name) {
    Header header = record.headers().lastHeader(name);
    return header == null || header.value() == null
        ? ""
        : new String(header.value(), StandardCharsets.UTF_8);
  }
}
