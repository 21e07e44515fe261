package anabranch.benchmark;

import ai.onnxruntime.OrtException;
import java.io.IOException;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.streams.Topology;

/**
 * The command: exits with 0 after SIGTERM, with 2 for a wrong command line, and with 1 for whatever
 * else fails; the last line on stderr says why.
 */
public final class Main {

    private Main() {}

    public static void main(String[] words) {
        System.exit(status(words));
    }

    private static int status(String[] words) {
        Options options;
        try {
            options = Options.parse(words);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            return 2;
        }
        try {
            Topology topology = options.workload().topology(options.models(), options.prefix());
            Service.run(topology, options.broker(), options.prefix());
            return 0;
        } catch (IOException | OrtException | KafkaException e) {
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                System.err.println(cause.toString().replaceAll("\\s*\\R\\s*", " "));
            }
            return 1;
        }
    }
}
