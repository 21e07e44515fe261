import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A file of decisions, each event once; it also says how far each partition is read.
 *
 * <p>Both stand in one line, which is there or not. So after a crash nothing is lost, and what is
 * read again is known. One process writes it.
 */
final class Journal implements AutoCloseable {
  private final FileChannel file;
  private final Set<String> events = new HashSet<>();
  private final Map<Integer, Long> next = new HashMap<>();
  private final StringBuilder lines = new StringBuilder();

  Journal(Path path) throws IOException {
    file =
        FileChannel.open(
            path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
    byte[] content = Files.readAllBytes(path);
    int whole = content.length;
    while (whole > 0 && content[whole - 1] != '\n') {
      whole--;
    }
    String lines = new String(content, 0, whole, StandardCharsets.UTF_8);
    for (String line : lines.lines().toList()) {
      count(End.JSON.readTree(line));
    }
    file.truncate(whole).position(whole);
  }

  /** The offset to go on at; 0 for a partition that was not read. */
  long next(int partition) {
    return next.getOrDefault(partition, 0L);
  }

  /** Take in a decision, unless its event has one: redriven, it is the same event. */
  void add(int partition, long offset, End end) {
    ObjectNode entry = End.JSON.createObjectNode().put("event", end.event());
    entry.putArray("at").add(partition).add(offset);
    entry.set("attempt", end.content().get("attempt"));
    for (String name : List.of("event_id", "decision", "score", "degraded")) {
      entry.set(name, end.content().get("decision").get(name));
    }
    if (!events.contains(end.event())) {
      count(entry);
      lines.append(entry).append('\n');
    }
  }

  /** Return once everything is on the disk. */
  void flush() throws IOException {
    ByteBuffer bytes = StandardCharsets.UTF_8.encode(lines.toString());
    while (bytes.hasRemaining()) {
      file.write(bytes);
    }
    file.force(true);
    lines.setLength(0);
  }

  @Override
  public void close() throws IOException {
    file.close();
  }

  private void count(JsonNode entry) {
    events.add(entry.get("event").asText());
    next.put(entry.get("at").get(0).asInt(), entry.get("at").get(1).asLong() + 1);
  }
}
