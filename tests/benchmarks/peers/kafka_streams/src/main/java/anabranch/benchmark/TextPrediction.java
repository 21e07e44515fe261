package anabranch.benchmark;

import com.fasterxml.jackson.core.io.NumberOutput;
import java.nio.FloatBuffer;

/** An input of Crayfish as text, and what the model says of it: numbers joined by commas. */
record TextPrediction(long id, long created, String data, String prediction) {

    /** The prediction of what remains in {@code outputs}. */
    static TextPrediction of(TextInput input, FloatBuffer outputs) {
        StringBuilder text = new StringBuilder();
        while (outputs.hasRemaining()) {
            text.append(text.isEmpty() ? "" : ",")
                    .append(NumberOutput.toString(outputs.get(), true));
        }
        return new TextPrediction(input.id(), input.created(), input.data(), text.toString());
    }
}
