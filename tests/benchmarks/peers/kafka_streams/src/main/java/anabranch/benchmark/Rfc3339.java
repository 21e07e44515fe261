package anabranch.benchmark;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.deser.std.StdDeserializer;
import java.io.IOException;
import java.io.Serial;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.format.ResolverStyle;
import java.time.temporal.ChronoField;

/** RFC 3339 times to milliseconds since 1970, and back. */
final class Rfc3339 {

    private static final DateTimeFormatter READ =
            new DateTimeFormatterBuilder()
                    .parseCaseInsensitive()
                    .appendPattern("uuuu-MM-dd'T'HH:mm:ss")
                    .optionalStart()
                    .appendFraction(ChronoField.NANO_OF_SECOND, 1, 9, true)
                    .optionalEnd()
                    .appendOffset("+HH:MM", "Z")
                    .toFormatter()
                    .withResolverStyle(ResolverStyle.STRICT);

    private static final DateTimeFormatter WRITE =
            new DateTimeFormatterBuilder().appendInstant(3).toFormatter();

    private Rfc3339() {}

    /** In UTC with milliseconds: {@code 2018-04-01T00:00:31.000Z}. */
    static String format(long milliseconds) {
        return WRITE.format(Instant.ofEpochMilli(milliseconds));
    }

    /** Reads a JSON string as milliseconds since 1970; anything but an RFC 3339 time is refused. */
    static final class Reader extends StdDeserializer<Long> {

        @Serial private static final long serialVersionUID = 1;

        Reader() {
            super(Long.class);
        }

        @Override
        public Long deserialize(JsonParser json, DeserializationContext context)
                throws IOException {
            String text = context.readValue(json, String.class);
            try {
                return READ.parse(text, Instant::from).toEpochMilli();
            } catch (DateTimeException e) {
                throw context.weirdStringException(text, Long.class, "not an RFC 3339 time");
            }
        }
    }
}
