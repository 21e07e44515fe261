package anabranch.benchmark;

import com.fasterxml.jackson.core.io.NumberInput;
import java.nio.FloatBuffer;

/** An input of Crayfish as text. */
record TextInput(long id, long created, String data) {

    /**
     * Puts the numbers, which are joined by commas, into {@code row} up to its end.
     *
     * @throws IllegalArgumentException if they are more or fewer, or are no numbers
     */
    void putInto(FloatBuffer row) {
        char[] text = data.toCharArray();
        int start = 0;
        while (start <= text.length && row.hasRemaining()) {
            int end = start;
            while (end < text.length && text[end] != ',') {
                end++;
            }
            row.put(NumberInput.parseFloat(text, start, end - start, true));
            start = end + 1;
        }
        if (start <= text.length || row.hasRemaining()) {
            throw new IllegalArgumentException(
                    "input " + id + " has not " + row.capacity() + " numbers");
        }
    }
}
