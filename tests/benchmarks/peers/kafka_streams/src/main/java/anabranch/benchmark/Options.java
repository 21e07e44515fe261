package anabranch.benchmark;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** What the command line says: each of the four options is there, and no other. */
record Options(Workload workload, String broker, Path models, String prefix) {

    private static final Set<String> NAMES =
            new TreeSet<>(Set.of("--workload", "--broker", "--models", "--prefix"));

    /**
     * The options of a command line of names and values in turn.
     *
     * @throws IllegalArgumentException with a message for the user, if they are not as they must be
     */
    static Options parse(String[] words) {
        Map<String, String> values = new HashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            values.put(words[i], words[i + 1]);
        }
        if (words.length % 2 != 0 || !values.keySet().equals(NAMES)) {
            throw new IllegalArgumentException("give each of " + NAMES + " and its value, once");
        }
        return new Options(
                Workload.named(values.get("--workload")),
                values.get("--broker"),
                Path.of(values.get("--models")),
                values.get("--prefix"));
    }
}
