package anabranch.benchmark;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsException;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import sun.misc.Signal;

/**
 * Runs a topology with a thread per core.
 *
 * <p>Delivery is Kafka Streams' default, at least once: the producer is idempotent and waits for
 * all replicas, and offsets are committed, every 30 s and in the end, after what was made of their
 * records has been written.
 */
final class Service {

    /** Kafka's own default has room for one record of text. */
    private static final int BATCH_BYTES = 256 * 1024;

    /** The producer's own default; Kafka Streams has 100, which an event would wait four times. */
    private static final int LINGER_MS = 5;

    private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(4);

    private Service() {}

    /**
     * Returns when SIGTERM or SIGINT has come and all is closed, or after 4 s of closing.
     *
     * @throws StreamsException about what has ended the processing, if anything has
     * @throws IOException if there is no temporary directory to be had
     */
    static void run(Topology topology, String broker, String prefix) throws IOException {
        Path state = Files.createTempDirectory("kafka-streams-peer-");
        KafkaStreams streams = new KafkaStreams(topology, settings(broker, prefix, state));
        CompletableFuture<Optional<Throwable>> ended = new CompletableFuture<>();
        streams.setUncaughtExceptionHandler(failure -> {
            ended.complete(Optional.of(failure));
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        // Left to the JVM, the exit code after SIGTERM would not be 0.
        Signal.handle(new Signal("TERM"), signal -> ended.complete(Optional.empty()));
        Signal.handle(new Signal("INT"), signal -> ended.complete(Optional.empty()));
        streams.start();
        Optional<Throwable> failure = ended.join();
        if (streams.close(CLOSE_TIMEOUT)) {
            streams.cleanUp();
            Files.deleteIfExists(state);
        }
        if (failure.isPresent()) {
            throw new StreamsException("the processing has failed", failure.get());
        }
    }

    private static Properties settings(String broker, String prefix, Path state) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + ".streams");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
        int cores = Runtime.getRuntime().availableProcessors();
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, cores);
        String reset = StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG);
        settings.put(reset, "earliest");
        String batch = StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG);
        settings.put(batch, BATCH_BYTES);
        String linger = StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG);
        settings.put(linger, LINGER_MS);
        return settings;
    }
}
