import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.apache.kafka.clients.CommonClientConfigs;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.SaslConfigs;
import org.apache.kafka.common.config.SslConfigs;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A client of a pipeline, with kafka-clients; deploy/clients.md says what it does and why.
 *
 * <pre>
 * Client BROKER PIPELINE ask KEY_FIELD [DEADLINE_S] &lt; events.jsonl
 * Client BROKER PIPELINE follow JOURNAL [IDLE_S]
 * </pre>
 */
final class Client {
  private static final Duration WAIT = Duration.ofMillis(200);
  private static final String UNCONFIRMED = "not confirmed: it may be published all the same";
  private static final String PENDING = "no decision yet: it is published, and will be decided";

  private final String broker;
  private final String pipeline;

  private Client(String broker, String pipeline) {
    this.broker = broker;
    this.pipeline = pipeline;
  }

  public static void main(String[] words) throws Exception {
    if (words.length < 4 || !Set.of("ask", "follow").contains(words[2])) {
      System.err.println("Client BROKER PIPELINE ask KEY_FIELD [DEADLINE_S] | follow JOURNAL [IDLE_S]");
      System.exit(2);
    }
    Client client = new Client(words[0], words[1]);
    double seconds = words.length > 4 ? Double.parseDouble(words[4]) : Double.POSITIVE_INFINITY;
    if (words[2].equals("ask")) {
      System.exit(client.ask(words[3], Math.min(seconds, words.length > 4 ? seconds : 30)));
    }
    client.follow(Path.of(words[3]), seconds);
  }

  /** Publish events, wait for how each ends, print that in order; 0 if all are decided. */
  private int ask(String key, double deadlineS) throws IOException, InterruptedException {
    List<String> sources = new ArrayList<>();
    Map<String, End> ends = new HashMap<>();
    try (KafkaConsumer<String, byte[]> consumer = consumer()) {
      // Positioned at the ends before anything is published, it can miss no answer.
      List<TopicPartition> partitions =
          partitions(consumer, pipeline + ".decisions", pipeline + ".dead-letters");
      consumer.assign(partitions);
      consumer.endOffsets(partitions).forEach(consumer::seek);
      publish(key, sources);
      Set<String> waiting = new HashSet<>(sources.stream().filter(Objects::nonNull).toList());
      long until = System.nanoTime() + (long) (deadlineS * 1e9);
      while (!waiting.isEmpty() && System.nanoTime() < until) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(WAIT)) {
          End.of(record)
              .filter(end -> waiting.remove(end.source()))
              .ifPresent(end -> ends.put(end.source(), end));
        }
      }
    }
    for (String source : sources) {
      var told = End.JSON.createObjectNode().put("source", source);
      if (ends.containsKey(source)) {
        told.setAll(ends.get(source).content());
      } else {
        told.put("error", source == null ? UNCONFIRMED : PENDING);
      }
      System.out.println(told);
    }
    boolean all = sources.stream().allMatch(s -> ends.containsKey(s) && ends.get(s).isDecision());
    return all ? 0 : 1;
  }

  /** Publish the events of stdin; their places, null for one that is not confirmed. */
  private void publish(String key, List<String> sources) throws IOException, InterruptedException {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    Properties settings = connection();
    settings.put(ProducerConfig.ACKS_CONFIG, "all");
    settings.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true);
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (var producer =
        new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (!line.isBlank()) {
          String value = End.JSON.readTree(line).get(key).asText();
          sent.add(producer.send(new ProducerRecord<>(pipeline + ".events", value, line)));
        }
      }
    }
    for (Future<RecordMetadata> each : sent) {
      try {
        RecordMetadata place = each.get();
        sources.add(place.topic() + "/" + place.partition() + "/" + place.offset());
      } catch (ExecutionException unconfirmed) {
        sources.add(null);
      }
    }
  }

  /** Write the decision about each event into the journal, once; go on where it ends. */
  private void follow(Path path, double idleS) throws IOException {
    try (Journal journal = new Journal(path);
        KafkaConsumer<String, byte[]> consumer = consumer()) {
      List<TopicPartition> partitions = partitions(consumer, pipeline + ".decisions");
      consumer.assign(partitions);
      partitions.forEach(each -> consumer.seek(each, journal.next(each.partition())));
      long last = System.nanoTime();
      while (System.nanoTime() - last < idleS * 1e9) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(WAIT)) {
          last = System.nanoTime();
          End.of(record)
              .ifPresent(end -> journal.add(record.partition(), record.offset(), end));
        }
        journal.flush();
      }
    }
  }

  /** A consumer in no group; what retention has deleted, it passes over. */
  private KafkaConsumer<String, byte[]> consumer() {
    Properties settings = connection();
    settings.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    return new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
  }

  private static List<TopicPartition> partitions(
      KafkaConsumer<String, byte[]> consumer, String... topics) {
    return Stream.of(topics)
        .flatMap(topic -> consumer.partitionsFor(topic).stream())
        .map(about -> new TopicPartition(about.topic(), about.partition()))
        .toList();
  }

  /** How to reach the broker: TLS where KAFKA_CA is set, a login where KAFKA_USERNAME is. */
  private Properties connection() {
    Properties settings = new Properties();
    settings.put(CommonClientConfigs.BOOTSTRAP_SERVERS_CONFIG, broker);
    String authority = System.getenv("KAFKA_CA");
    String user = System.getenv("KAFKA_USERNAME");
    if (authority != null) {
      settings.put(CommonClientConfigs.SECURITY_PROTOCOL_CONFIG, user == null ? "SSL" : "SASL_SSL");
      settings.put(SslConfigs.SSL_TRUSTSTORE_TYPE_CONFIG, "PEM");
      settings.put(SslConfigs.SSL_TRUSTSTORE_LOCATION_CONFIG, authority);
    }
    if (user != null) {
      settings.put(SaslConfigs.SASL_MECHANISM, "SCRAM-SHA-512");
      settings.put(
          SaslConfigs.SASL_JAAS_CONFIG,
          "org.apache.kafka.common.security.scram.ScramLoginModule required username=\""
              + user + "\" password=\"" + System.getenv("KAFKA_PASSWORD") + "\";");
    }
    return settings;
  }
}
